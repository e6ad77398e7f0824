//! How sections that hold secrets are printed: without them.

use std::fmt;

use super::keys::{ClickConfig, CookieConfig, Partner, Site, UserConfig};

fn key_ids(keys: &[(u8, Vec<u8>)]) -> Vec<u8> {
    keys.iter().map(|(id, _)| *id).collect()
}

impl fmt::Debug for CookieConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieConfig")
            .field("name", &self.name)
            .field("key_ids", &key_ids(&self.keys))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ClickConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClickConfig")
            .field("key_ids", &key_ids(&self.keys))
            .finish()
    }
}

impl fmt::Debug for UserConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserConfig")
            .field("key_ids", &key_ids(&self.keys))
            .finish()
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site")
            .field("key", &self.key)
            .field("default_permit", &self.default_permit)
            .field("user_sig_key_ids", &key_ids(&self.user_sig_keys))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Partner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partner")
            .field("key", &self.key)
            .field("mapping", &self.mapping)
            .field("has_secret", &!self.secret.is_empty())
            .field("has_token", &!self.token.is_empty())
            .finish_non_exhaustive()
    }
}
