-- $1: users who owned groups that lost a tie. Deletes those of them who have no ties left.
delete from avtryck.link_node as known
where known.node = any($1) and known.kind = 5
  and not exists (select from avtryck.link_edge as edge where edge.a = known.node)
  and not exists (select from avtryck.link_edge as edge where edge.b = known.node)
