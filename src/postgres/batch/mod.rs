//! What one transaction writes: the rows of a batch and the position behind them.

pub mod commit;
pub mod copy;
pub mod dimension;
pub mod exposure;
pub mod load;
pub mod partner_id;
pub mod position;
