//! The Kafka sink: a batch is the messages of its hits.

pub mod message;
