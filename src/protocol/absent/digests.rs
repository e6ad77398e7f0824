//! Hashes of what programs write where they know no ID.

use std::collections::HashSet;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use super::words::WORDS;

/// What is written in other ways than [`WORDS`] and hashed as it is written.
const HASHED: [&str; 26] = [
    "",
    " ",
    "0",
    "-1",
    "-2",
    "-",
    "NaN",
    "n/a",
    "N/A",
    "(null)",
    "<null>",
    "\\N",
    "not set",
    "(not set)",
    "[object Object]",
    "{}",
    "[]",
    "\"\"",
    "00000000-0000-0000-0000-000000000000",
    "00000000000000000000000000000000",
    "000000000000000",
    "00:00:00:00:00:00",
    "02:00:00:00:00:00",
    "020000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
];

/// The names of IDs, hashed in their place.
const HASHED_NAMES: [&str; 19] = [
    "id",
    "uid",
    "uuid",
    "guid",
    "userid",
    "useruid",
    "clickid",
    "orderid",
    "eventid",
    "deviceid",
    "visitorid",
    "cookieid",
    "distinctid",
    "transactionid",
    "maid",
    "idfa",
    "gaid",
    "aaid",
    "did",
];

/// RFC 9562's name spaces: of DNS, URLs, OIDs and X.500, which differ in their first four bytes.
const NAME_SPACES: [u128; 5] = [
    0,
    0x6ba7_b810_9dad_11d1_80b4_00c0_4fd4_30c8,
    0x6ba7_b811_9dad_11d1_80b4_00c0_4fd4_30c8,
    0x6ba7_b812_9dad_11d1_80b4_00c0_4fd4_30c8,
    0x6ba7_b814_9dad_11d1_80b4_00c0_4fd4_30c8,
];

/// The length of a UUID with its hyphens.
const UUID_BYTES: usize = 36;

/// The first 16 bytes of each hash.
struct Digests {
    all: HashSet<u128>,
    /// A bit for each pair of bytes that a digest begins with, since nearly no ID begins so.
    beginnings: Vec<u64>,
}

static DIGESTS: LazyLock<Digests> = LazyLock::new(|| {
    let all: HashSet<u128> = texts().iter().flat_map(|text| hash(text)).collect();
    let mut beginnings = vec![0; 1 << 10];
    for digest in &all {
        let (place, bit) = place_of(u16::try_from(digest >> 112).unwrap_or_default());
        if let Some(bits) = beginnings.get_mut(place) {
            *bits |= bit;
        }
    }
    Digests { all, beginnings }
});

/// Returns every value that says that there is no ID, in its usual spellings.
fn texts() -> Vec<String> {
    let capitalised = |word: &str| {
        let (first, rest) = word.split_at_checked(1).unwrap_or_default();
        first.to_uppercase() + rest
    };
    let spell = |word: &&str| [(*word).to_owned(), word.to_uppercase(), capitalised(word)];
    let words = WORDS.iter().chain(&HASHED_NAMES).flat_map(spell);
    let texts = words.chain(HASHED.iter().map(|text| (*text).to_owned()));
    // A shell hashes the line end as well.
    texts.flat_map(|text| [text.clone() + "\n", text]).collect()
}

/// Returns the hashes of a text: MD5, SHA-1, those of SHA-2, and the UUIDs that are named by it.
fn hash(text: &str) -> Vec<u128> {
    let half = |digest: &[u8]| digest.first_chunk().copied().map(u128::from_be_bytes);
    let plain = [
        half(&Md5::digest(text)),
        half(&Sha1::digest(text)),
        half(&Sha224::digest(text)),
        half(&Sha256::digest(text)),
        half(&Sha384::digest(text)),
        half(&Sha512::digest(text)),
    ];
    let version = |digest: u128, version: u128| {
        (digest & !(0xf << 76) & !(0b11 << 62)) | (version << 76) | (0b10 << 62)
    };
    let named = NAME_SPACES.iter().flat_map(|space| {
        let name = [&space.to_be_bytes(), text.as_bytes()].concat();
        let by_md5 = half(&Md5::digest(&name)).map(|digest| version(digest, 3));
        let by_sha = half(&Sha1::digest(&name)).map(|digest| version(digest, 5));
        [by_md5, by_sha]
    });
    plain.into_iter().chain(named).flatten().collect()
}

fn place_of(beginning: u16) -> (usize, u64) {
    (usize::from(beginning >> 6), 1 << (beginning & 63))
}

/// Returns whether a value is a hash of a value that says that there is no ID: in hex, as a UUID or
/// in base64, also behind the name of the hash (`sha256:…`).
pub(super) fn has(value: &str) -> bool {
    let value = without_name(value);
    let digest = match value.len() {
        32 | UUID_BYTES | 56 | 96 | 128 => from_hex(value),
        40 | 64 => from_hex(value).or_else(|| from_base64(value)),
        22 | 24 | 27 | 28 | 38 | 43 | 44 | 86 | 88 => from_base64(value),
        _ => None,
    };
    // A number that is filled up with zeros begins as a digest of zeros does.
    let is_zero = || value.bytes().all(|byte| matches!(byte, b'0' | b'A' | b'='));
    digest.is_some_and(|digest| digest == 0 && is_zero() || DIGESTS.all.contains(&digest))
}

/// Returns a value without the name of a hash in front of it.
fn without_name(value: &str) -> &str {
    const NAMES: [&str; 6] = ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"];
    // Most IDs begin otherwise.
    if !value.starts_with(['m', 'M', 's', 'S']) {
        return value;
    }
    let is_hash = |name: &str| NAMES.iter().any(|known| known.eq_ignore_ascii_case(name));
    match value.split_once([':', '=', '-']) {
        Some((name, digest)) if is_hash(name) => digest,
        _ => value,
    }
}

/// Returns whether a digest may begin so. Zeros are one, too.
fn may_begin(beginning: u16) -> bool {
    let (place, bit) = place_of(beginning);
    let bits = DIGESTS.beginnings.get(place).copied().unwrap_or_default();
    beginning == 0 || bits & bit != 0
}

fn from_hex(value: &str) -> Option<u128> {
    let beginning = u16::from_str_radix(value.get(..4)?, 16).ok()?;
    if !may_begin(beginning) {
        return None;
    }
    let is_uuid = value.len() == UUID_BYTES;
    let mut digits = value.bytes().filter(|byte| !is_uuid || *byte != b'-');
    (0..32).try_fold(0, |digest, _| {
        let digit = char::from(digits.next()?).to_digit(16)?;
        Some(digest << 4 | u128::from(digit))
    })
}

/// Decodes what may be a digest, in either alphabet, with padding or without.
fn from_base64(value: &str) -> Option<u128> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
    let is_url_safe = value.bytes().any(|byte| matches!(byte, b'-' | b'_'));
    let engine = if is_url_safe { URL_SAFE } else { STANDARD };
    let mut bytes = [0; 66];
    engine.decode_slice(value.get(..4)?, &mut bytes).ok()?;
    if !may_begin(u16::from_be_bytes(*bytes.first_chunk()?)) {
        return None;
    }
    let length = engine.decode_slice(value, &mut bytes).ok()?;
    bytes
        .get(..length)?
        .first_chunk()
        .copied()
        .map(u128::from_be_bytes)
}
