//! New visitors' IDs, from the operating system's entropy. It is asked for [`IDS_AT_ONCE`] of them,
//! since that is one system call where there would be as many.

use std::cell::RefCell;

use crate::hit::VisitorId;

const ID_BYTES: usize = 16;
const IDS_AT_ONCE: usize = 32;

/// One edge thread's IDs that nobody has yet.
#[derive(Default)]
pub(crate) struct Mint(RefCell<Vec<[u8; ID_BYTES]>>);

impl Mint {
    /// An ID that is given once; `None` where the system has no entropy.
    pub(crate) fn id(&self) -> Option<VisitorId> {
        let mut ids = self.0.borrow_mut();
        if ids.is_empty() {
            let mut fresh = [[0; ID_BYTES]; IDS_AT_ONCE];
            getrandom::fill(fresh.as_flattened_mut()).ok()?;
            ids.extend(fresh);
        }
        ids.pop().map(VisitorId)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_id_is_given_twice() {
        let mint = Mint::default();
        let ids: HashSet<VisitorId> = (0..10 * IDS_AT_ONCE).filter_map(|_| mint.id()).collect();
        assert_eq!(ids.len(), 10 * IDS_AT_ONCE);
    }
}
