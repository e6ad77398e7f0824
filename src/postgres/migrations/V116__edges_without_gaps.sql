-- Each change of an edge changes a column of one of its indexes, so no update is made within the row's page: room that is
-- left there for it would only be kept empty.

alter table avtryck.link_edge reset (fillfactor);
