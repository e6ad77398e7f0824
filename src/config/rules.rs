//! The rules by which consent is decided, as sites and partners state them.

use super::{Partner, Site};
use crate::consent::PermitRules;

impl From<&Site> for PermitRules {
    fn from(site: &Site) -> PermitRules {
        PermitRules {
            gvl_id: site.gvl_id,
            default_permit: site.default_permit,
            gdpr_0_permit: site.gdpr_0_permit,
        }
    }
}

impl From<&Partner> for PermitRules {
    fn from(partner: &Partner) -> PermitRules {
        PermitRules {
            gvl_id: partner.gvl_id,
            default_permit: partner.default_permit,
            gdpr_0_permit: partner.gdpr_0_permit,
        }
    }
}
