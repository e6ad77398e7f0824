-- Hits that `avtryck load` reads from Kafka: a partition has a position as a spool has, and a spool comes in one way.

create function avtryck.spool_half(spool_id uuid) returns bigint language sql immutable parallel safe
begin atomic
    select ('x' || left(replace(spool_id::text, '-', ''), 16))::bit(64)::bigint;
end;
comment on function avtryck.spool_half is 'The first half of a spool''s ID, which is the first half of the IDs of its hits.';

create table avtryck.kafka_partition (
    spool_id uuid primary key,
    cluster text not null,
    topic text not null,
    partition integer not null
);
comment on table avtryck.kafka_partition is 'The partitions that avtryck load reads. How far each is loaded is in spool_position: chunk is 0, byte_offset and records are the offset of the next message.';
comment on column avtryck.kafka_partition.spool_id is 'What stands for the partition in spool_position and rejected_hit: the first half of a SHA-256 of cluster, topic and partition.';
comment on column avtryck.kafka_partition.cluster is 'The ID of the Kafka cluster.';
comment on column avtryck.kafka_partition.topic is 'The topic.';
comment on column avtryck.kafka_partition.partition is 'The number of the partition.';

create table avtryck.kafka_spool (
    half bigint primary key,
    since timestamptz not null
);
comment on table avtryck.kafka_spool is 'The spools whose hits came by way of Kafka. A collector may not load them itself, or each would be loaded twice.';
comment on column avtryck.kafka_spool.half is 'As avtryck.spool_half.';
comment on column avtryck.kafka_spool.since is 'When the first hit of it was loaded.';
