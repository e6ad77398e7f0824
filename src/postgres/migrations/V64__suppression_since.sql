-- The sink that produces to Kafka asks every other second what came onto the list.
create index suppression_since on avtryck.suppression (since);
