//! The form of a row in the table of keys, and what is made of it.
//!
//! A row of [`keys`](super::keys) reads
//!
//! ```text
//! /// What the key means, as the example configuration says it.
//! restart field as "name": Type = reader("default", "what would be right", parser);
//! ```
//!
//! - `reload` or `restart` says when a change takes effect.
//! - `as "name"` names the key where it is not called like the field.
//! - The reader is a method of [`KeyRow`](super::read::KeyRow). Its arguments are the default as it
//!   would stand in the file, what messages say "would be right", and the function that parses the
//!   text.
//!
//! The struct's field with its documentation, the reading of file and environment with its
//! messages, the example configuration, what `check-config` prints and what a reload leaves for a
//! restart all come from the row.

/// Defines the struct of a section from its rows.
macro_rules! keys {
    (
        $(#[$attribute:meta])*
        pub struct $Table:ident in [$name:ident] {
            $(
                $(#[doc = $meaning:literal])+
                $when:ident $field:ident $(as $key:literal)?: $type:ty = $reader:ident($($argument:expr),* $(,)?);
            )+
        }
    ) => {
        $(#[$attribute])*
        pub struct $Table {
            $($(#[doc = $meaning])+ pub $field: $type,)+
        }

        impl $crate::config::read::Table for $Table {
            const NAME: &'static str = stringify!($name);

            fn read(section: &mut $crate::config::read::Section<'_>) -> $Table {
                $Table {
                    $(
                        $field: section
                            .$when($crate::config::table::key!($field $($key)?), concat!($($meaning),+))
                            .$reader($($argument),*),
                    )+
                }
            }
        }
    };
}

/// The name of a key: that of its field where it has no other.
macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

pub(super) use {key, keys};
