-- A topic that is deleted and made again begins at offset 0, where its positions in Postgres say nothing. A message that was
-- read tells one topic from another of the same name.

alter table avtryck.kafka_partition
    add column witness_offset bigint,
    add column witness_at bigint;
comment on column avtryck.kafka_partition.witness_offset is 'The offset of a message that was read. If another one is there, the topic was made anew.';
comment on column avtryck.kafka_partition.witness_at is 'The time of that message as Kafka has it: milliseconds since 1970-01-01T00:00:00Z.';
