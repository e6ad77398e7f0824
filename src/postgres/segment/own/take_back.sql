-- $1: the subjects that a visitor is; $2: what the visitor objected to; $3: the number of the segment or import.
delete from avtryck.objection as said
where said.subject = any($1) and said.kind = $2 and said.name = case $2::text
    when 'segment' then (select known.key from avtryck.segment as known where known.segment = $3::integer)
    when 'supplier' then (select used.supplier from avtryck.import as used where used.import = $3::integer)
    else '' end
