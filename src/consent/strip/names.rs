//! What names say of their values: one table.
//!
//! A name is compared in lower case, letters and digits alone, so `user_id`, `userId` and `USER-ID`
//! are one. Of a path (`user[email]`, `device.id`) the last part counts, and the one before it says
//! whose it is.

use std::borrow::Cow;
use std::sync::LazyLock;

use Class::{
    Address, Credential, Direct, Id, IdOfOwner, NameOfPerson, Owner, Person, Phone, Place,
    Position, Traits,
};
use Part::{End, Whole};

use super::text::decode;
use crate::consent::names::narrow_all;

/// The members whose text may be the name of the member beside it.
pub(super) const NAMES_OF_NAMES: [&str; 6] =
    ["name", "key", "field", "property", "type", "elementId"];

/// What a name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// An ID of a person, a device, a browser or a visit, or what proves one.
    Id,
    /// What proves who somebody is to whoever reads it, for a time: it leaves whatever is
    /// permitted.
    Credential,
    /// What identifies a person by itself: e-mail address, phone number, name, street, birthday.
    Direct,
    /// The same if it is no object; an object has other parts beside the street.
    Address,
    /// The same if it is a phone number; others call a kind of device or of message so.
    Phone,
    /// Latitude, longitude or both.
    Position,
    /// The same if its value is one; others call a page or a shop so.
    Place,
    /// What is known of a person.
    Traits,
    /// A person: an ID, or an object about them.
    Person,
    /// An object about a person, a device or a visit.
    Owner,
    /// A name, in an object about a person.
    NameOfPerson,
    /// An ID, in an object about a person, a device or a visit.
    IdOfOwner,
}

/// Which part of a name must be equal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    /// Its end: `previousSessionId` is one that ends with `sessionid`.
    End,
}

/// The names.
#[rustfmt::skip]
const NAMES: &[(Class, Part, &[&str])] = &[
    // What ad networks, mailers and other trackers add to addresses.
    (Id, Whole, &[
        "sp", "pkvid", "gclid", "gclsrc", "gbraid", "wbraid", "dclid", "fbclid", "msclkid", "ttclid", "twclid",
        "lifatid", "mceid", "ga", "gl", "gac", "gcl", "gclaw", "gcldc", "yclid", "ymclid", "igshid", "igsh", "hsenc",
        "hstc", "hssc", "hsfp", "hsctatracking", "hubspotutk", "mkttok", "veroid", "olyencid", "olyanonid", "wickedid",
        "rdtcid", "epik", "sccid", "irclickid", "cjevent", "zanpid", "tblci", "qclid", "dicbo", "ndclid", "srsltid",
        "kx", "ke", "vgoee", "trkcontact", "branchmatchid", "btatid", "rbclid", "mlsubscriber", "mlsubscriberhash",
        "awc", "fbp", "fbc", "ttp", "muid", "gid", "utma", "ajsuid", "ajsaid", "ecid", "mcid", "aamuuid", "uid2", "euid",
        "rampid", "idl", "pubcid", "sharedid", "tdid", "id5", "ctobundle", "piwikvid", "matomovid", "gclau", "uetvid", "uetsid",
        "clck", "clsk", "scid",
    ]),
    (Id, Whole, &["avclid", "avlink", "clid", "irclid", "obclid", "gadclid"]),
    (Id, End, &["clickid"]),
    // Of people, browsers, devices and visits.
    (Id, Whole, &[
        "uid", "uuid", "guid", "puid", "buid", "duid", "nuid", "tnuid", "vid", "sid", "did", "cid", "ppid", "cuid",
        "ifa", "gaid", "aaid", "oaid", "udid", "imei", "imsi", "meid", "iccid", "mac", "maid", "serial", "fp",
        "fingerprint", "ip", "cip", "ipaddress", "ipaddr", "ipv4", "ipv6", "clientip", "userip", "remoteaddr", "remoteip",
        "realip", "xforwardedfor", "forwardedfor", "facebookid",
        "phpsessid", "jsessionid", "aspnetsessionid", "sessid", "sessionkey", "userhash", "useridhash", "msisdnhash",
        "hashedid", "eids", "rdid", "androidid", "rudderid", "userkey", "userids", "sessioncookie",
        // By which Snowplow's trackers tell visits and tabs.
        "firsteventid", "firsteventtimestamp", "tabid",
    ]),
    (Id, End, &[
        "userid", "customerid", "clientid", "visitorid", "deviceid", "sessionid", "memberid", "personid", "profileid",
        "contactid", "subscriberid", "anonymousid", "anonid", "cookieid", "browserid", "installid", "installationid",
        "loginid", "guestid", "leadid", "employeeid", "patientid", "playerid", "householdid", "crmid", "externalid",
        "advertisingid", "appsetid", "previousid", "groupid", "distinctid", "amplitudeid", "mixpanelid",
        "heapid", "accountid", "identityid", "identifierforvendor", "idfa", "idfv", "macaddress", "serialnumber",
        "customernumber", "customerno", "membernumber", "memberno", "accountnumber", "loyaltynumber",
        "kundnummer", "medlemsnummer", "kundnr",
        "userfingerprint", "useruuid", "userguid", "visitoruuid", "deviceuuid", "sessionuuid", "userpseudoid",
    ]),
    (Credential, End, &["usersig", "usersignature"]),
    (Id, End, &["token", "password", "passwd", "apikey", "secret"]),
    (Id, Whole, &["pwd", "jwt", "authorization", "auth"]),
    (Direct, End, &[
        "email", "emailaddress", "mailaddress", "emailaddr", "epost", "epostadress", "phonenumber", "phoneno",
        "mobilenumber", "mobileno", "msisdn", "telefon", "telefonnummer", "mobilnummer", "firstname", "lastname",
        "fullname", "surname", "givenname", "familyname", "middlename", "maidenname", "nickname", "displayname",
        "username", "realname", "personname", "customername", "contactname", "recipientname", "cardholder",
        "cardholdername", "forename", "fornamn", "efternamn", "birthday", "birthdate", "dateofbirth", "fodelsedatum",
        "street", "streetaddress", "streetname", "housenumber", "gatuadress", "personalnumber", "nationalid",
        "socialsecuritynumber", "passportnumber", "cardnumber", "bankaccount",
        "personnummer", "personnr", "fodselsnummer",
    ]),
    (Direct, Whole, &[
        "mail", "emailhash", "emailsha256", "emailsha1", "emailmd5", "phonehash", "phonesha256", "em", "ph", "fn",
        "ln", "phone", "telephone", "mobilephone", "homephone", "workphone", "cellphone", "userphone", "customerphone",
        "contactphone", "billingphone", "shippingphone", "emails", "tlf", "tel", "e164", "bday", "dob", "birth", "birthyear", "ssn",
        "iban", "creditcard", "street1", "street2", "addressline", "addressline1", "addressline2", "address1",
        "address2", "gata", "postaladdress", "fname", "lname", "sn", "ajstraitname",
        "whatsapp", "phones", "phone1", "phone2", "street2", "streetaddress1", "streetaddress2", "address3",
        "addressline3", "birthmonth", "born",
    ]),
    (Phone, Whole, &["mobile", "cell", "cellular", "sms", "landline", "fax"]),
    (Address, End, &["address", "adress"]),
    (Position, End, &["latitude", "longitude", "geolocation", "geohash", "gpscoordinates", "geocoordinates"]),
    (Position, Whole, &[
        "latlng", "latlong", "latlon", "lonlat", "lnglat", "coordinates", "coords", "geopoint", "geoposition", "gps",
        "geolocationcontext", "altitude", "latitudelongitudeaccuracy",
    ]),
    (Place, Whole, &["lat", "lon", "long", "lng", "location", "geo"]),
    (Traits, End, &["traits", "userproperties", "userdata", "userattributes", "customerdata", "personproperties"]),
    (Traits, Whole, &["ud"]),
    (Person, Whole, &[
        "user", "customer", "visitor", "member", "subscriber", "person", "patient", "employee",
        "session", "login", "identity", "buyer", "recipient", "contact", "lead", "guest",
    ]),
    (Owner, Whole, &[
        "billing", "shipping", "profile", "device", "account", "people", "household", "owner", "clientsession", "identities", "sender",
        "billinginfo", "shippinginfo", "userinfo", "customerinfo",
        // Segment's: which network's click brought the visitor.
        "referrer",
        "users", "customers", "visitors", "members", "subscribers", "persons", "patients", "employees", "buyers",
        "recipients", "contacts", "leads", "guests", "devices", "accounts", "profiles",
    ]),
    (NameOfPerson, Whole, &["name", "first", "last", "middle", "initials", "namn"]),
    (IdOfOwner, Whole, &["id", "key", "hash", "value", "identifier", "ids"]),
];

/// A name as it is compared, in lower case, letters and digits alone: its length and its end. Most
/// names are none of the known ones by these.
struct Folded<'n> {
    name: &'n str,
    /// How many letters and digits it has.
    length: usize,
    /// The last eight of them, the last one lowest; zero before the first.
    end: u64,
    /// Whether nothing else is in it but what joins words.
    is_plain: bool,
}

/// What a byte of a name counts as that joins words.
const JOINS: u8 = 0;
/// What any other byte counts as that is no letter or digit.
const UNUSUAL: u8 = 0x80;

/// What each byte of a name counts as: a letter in lower case, a digit, or none.
#[expect(
    clippy::indexing_slicing,
    reason = "it is evaluated by the compiler, which would refuse an index that is too large"
)]
const FOLDS: [u8; 256] = {
    let mut folds = [UNUSUAL; 256];
    let mut byte = u8::MAX;
    while byte > 0 {
        if byte.is_ascii_alphanumeric() {
            folds[byte as usize] = byte.to_ascii_lowercase();
        } else if matches!(byte, b'_' | b'-') {
            folds[byte as usize] = JOINS;
        }
        byte -= 1;
    }
    folds
};

impl<'n> Folded<'n> {
    fn of(name: &'n str) -> Folded<'n> {
        let (mut length, mut end, mut all) = (0, 0, 0);
        for byte in name.bytes() {
            let fold = FOLDS.get(usize::from(byte)).copied().unwrap_or(UNUSUAL);
            all |= fold;
            if fold & !UNUSUAL != 0 {
                end = end << 8 | u64::from(fold);
                length += 1;
            }
        }
        Folded {
            name,
            length,
            end,
            is_plain: all & UNUSUAL == 0,
        }
    }

    fn class(&self) -> Option<Class> {
        let mut known = BY_END.get(place(self.end))?.iter();
        let known = known.find(|known| self.end & known.mask == known.end && self.is(known));
        known.map(|known| known.class)
    }

    /// Compares the name with one of the same end.
    fn is(&self, known: &Known) -> bool {
        let has_length = match known.part {
            Whole => self.length == known.name.len(),
            End => self.length >= known.name.len(),
        };
        let letters = self.name.bytes().rev().filter(u8::is_ascii_alphanumeric);
        let mut pairs = letters.zip(known.name.iter().rev());
        has_length && pairs.all(|(letter, known)| letter.to_ascii_lowercase() == *known)
    }
}

/// One of the names.
struct Known {
    name: &'static [u8],
    /// Its last eight letters at most, the last one lowest.
    end: u64,
    /// All bits of these.
    mask: u64,
    class: Class,
    part: Part,
}

impl Known {
    fn new(name: &'static str, class: Class, part: Part) -> Known {
        let end = Folded::of(name).end;
        let spare = 8_usize.saturating_sub(name.len());
        Known {
            name: name.as_bytes(),
            end,
            mask: u64::MAX >> (8 * spare),
            class,
            part,
        }
    }
}

/// How many places there are for the last three letters of names.
const PLACES: usize = 2048;

/// The names by their last three letters. A name is compared only with those that share its ending;
/// most names share theirs with none.
static BY_END: LazyLock<Vec<Vec<Known>>> = LazyLock::new(|| {
    let mut by_end: Vec<Vec<Known>> = (0..PLACES).map(|_| Vec::new()).collect();
    for (class, part, names) in NAMES {
        for name in *names {
            let known = Known::new(name, *class, *part);
            if let Some(ends) = by_end.get_mut(place(known.end)) {
                ends.push(known);
            }
        }
    }
    by_end
});

/// Returns the place for the last three letters of a name. A name of two letters has its own place,
/// with zero before them: it is compared as a whole, so no longer name has to be found there.
fn place(end: u64) -> usize {
    let [.., first, second, third] = end.to_be_bytes().map(usize::from);
    (first * 67 + second * 33 + third) % PLACES
}

/// Returns a name as it is compared.
#[must_use]
pub(crate) fn fold_name(name: &str) -> String {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    letters.map(|letter| letter.to_ascii_lowercase()).collect()
}

/// How cookies are called that have an ID in them, before what tells those of one page apart:
/// `_ga_XYZ12345`, `_pk_id.1.1fff`.
const NUMBERED_COOKIES: [&str; 9] = [
    "_ga_",
    "_gac_",
    "_gcl_",
    "_hjsession",
    "_hp2_",
    "_pk_id",
    "_pk_ses",
    "_sp_id",
    "_sp_ses",
];

fn is_numbered_cookie(name: &str) -> bool {
    // Nearly every name begins with a letter.
    if name
        .as_bytes()
        .first()
        .is_none_or(u8::is_ascii_alphanumeric)
    {
        return false;
    }
    let name = name.trim_start_matches(|c: char| c.is_whitespace() || "\"';&".contains(c));
    let begins_with = |start: &&str| {
        let own = name.get(..start.len());
        own.is_some_and(|own| own.eq_ignore_ascii_case(start))
    };
    name.starts_with('_') && NUMBERED_COOKIES.iter().any(begins_with)
}

/// Returns what a name says, a path's by its last part where that says something: in an object of
/// traits whatever it is called.
pub(super) fn class_of(name: &str) -> Option<Class> {
    // Matomo's ID of a visitor.
    if name == "_id" || is_numbered_cookie(name) {
        return Some(Id);
    }
    let folded = Folded::of(name);
    if folded.is_plain {
        return folded.class();
    }
    let decoded = decode(name);
    class_of_path(&narrow_all(&decoded).map_or(decoded, Cow::Owned))
}

/// Returns what a name says that is a path, or may be one.
fn class_of_path(name: &str) -> Option<Class> {
    let is_part = |part: &&str| !part.is_empty();
    let mut parts = name
        .split(['.', '[', ']', '{', '}', '(', ')', ':', '/', '$', '|'])
        .filter(is_part);
    if name == "_id" || parts.clone().any(is_numbered_cookie) {
        return Some(Id);
    }
    let last = parts.next_back()?;
    let before: Vec<Class> = parts.filter_map(|part| Folded::of(part).class()).collect();
    if before.contains(&Traits) {
        return Some(Traits);
    }
    let class = Folded::of(last).class();
    let is_owned = matches!(before.last(), Some(Person | Owner));
    match class {
        Some(NameOfPerson) if is_owned => Some(Direct),
        Some(IdOfOwner) if is_owned => Some(Id),
        // What follows tells which part it is of an ID, or of several: `user_id[0]`, `email.value`.
        None | Some(IdOfOwner) if matches!(before.last(), Some(Id | Direct | Credential)) => {
            before.last().copied()
        }
        None => Folded::of(name).class(),
        class => class,
    }
}

/// Returns what the schema of a Snowplow entity says of its data: `iglu:vendor/name/format/version`
/// is how it is written.
pub(super) fn class_of_schema(schema: &str) -> Option<Class> {
    let name = schema.strip_prefix("iglu:")?.split('/').nth(1)?;
    match class_of(name) {
        Some(Person) => return Some(Traits),
        None => {}
        class => return class,
    }
    let mut words = name.split(['_', '-']);
    let is_person = words.next().and_then(class_of) == Some(Person);
    let is_about = |word| {
        [
            "context",
            "entity",
            "data",
            "properties",
            "info",
            "profile",
            "details",
        ]
        .contains(&word)
    };
    (is_person && words.all(is_about)).then_some(Traits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn a_name_is_found_as_the_table_is_read_from_its_beginning(
            start in "[a-zA-Z0-9_-]{0,12}",
            known in 0..NAMES.len(),
            at in any::<prop::sample::Index>(),
            cut in 0..3_usize,
        ) {
            let known = at.get(NAMES[known].2);
            let name = format!("{start}{}", &known[cut.min(known.len())..]);
            let folded = fold_name(&name);
            let all = NAMES.iter().flat_map(|(class, part, names)| names.iter().map(move |name| (class, part, name)));
            let mut found = all.filter(|(_, part, known)| match part {
                Whole => folded == ***known,
                End => folded.ends_with(**known),
            });
            let expected = match &*name {
                "_id" => Some(Id),
                name if is_numbered_cookie(name) => Some(Id),
                _ => found.next().map(|(class, ..)| *class),
            };
            prop_assert_eq!(class_of(&name), expected, "{}", name);
        }
    }

    #[test]
    fn each_name_is_written_as_it_is_compared_and_found() {
        for (class, _, names) in NAMES {
            for name in *names {
                assert_eq!(fold_name(name), *name);
                assert!(name.len() > 1, "{name}");
                // An earlier row may say the same of a longer end.
                assert!(class_of(name).is_some(), "{class:?} {name}");
            }
        }
        let long = format!("{}_user_id", "x".repeat(100));
        assert_eq!(class_of(&long), Some(Id));
        assert_eq!(class_of(&format!("{}gclid", "x".repeat(100))), None);
    }
}
