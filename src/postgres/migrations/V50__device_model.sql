-- Which list of names a device was looked up in, so that a model without a name is looked up once and not in each run.
alter table avtryck.device add column named_by bigint;
comment on column avtryck.device.named_by is 'A number for the list of names in which its model was looked up last; null where that is still to be done. The names are in device_model.';
create index device_named_by on avtryck.device (named_by) where model is not null;
