//! `[import]`: data of registers and suppliers.

use super::table::keys;
use super::value;
use crate::attribute::AttributeClass;

keys! {
    /// `[import]`: what `avtryck import` may take.
    #[derive(Clone, Debug)]
    pub struct ImportConfig in [import] {
        /// Classes of attributes that are refused unless they stand here: credit (data about
        /// creditworthiness), special (special categories), minor (that somebody is a child). Ask
        /// counsel first.
        reload classes: Vec<AttributeClass> =
            list("credit, special, minor", value::attribute_class);
    }
}
