//! Further values that mean "no ID", as bug reports and careless senders have them.

use super::*;

/// What else programs, tables and people write where there is no ID.
const FURTHER_NO_IDS: &[&str] = &[
    "\u{ff10}",
    "AAAAAAAAAAAA",
    "77777777-7777-7777-7777-777777777777",
    "Error",
    "saknas",
    "Okänd",
    "\u{ff4e}\u{ff55}\u{ff4c}\u{ff4c}",
    "\u{ff3b}object Object\u{ff3d}",
    "{null}",
    "<undefined>",
    "[undefined]",
    "[\"\"]",
    "[{}]",
    "[object Promise]",
    "[object Null]",
    "[REDACTED]",
    "[FILTERED]",
    "***",
    "********",
    "null/null",
    "undefined|undefined",
    "nullundefined",
    "undefinednull",
    "NaNnull",
    "null;",
    "null\\0",
    "%00",
    "0,0",
    "+0",
    "0000-0000",
    "-nan",
    "-inf",
    "inf",
    "-Infinity",
    "-NaN(ind)",
    "1.#IND",
    "1.#QNAN",
    "<NA>",
    "<na>",
    "#NAME?",
    "#NULL!",
    "(none)",
    "(unknown)",
    "(empty)",
    "(blank)",
    "<empty>",
    "empty string",
    "Unknown User",
    "unknown_id",
    "unknownUser",
    "no user",
    "no-user-id",
    "NO_USER_ID",
    "anonymous_user",
    "anonymous-user",
    "Anonymous",
    "guest_user",
    "GUEST-USER",
    "not found",
    "not available",
    "not applicable",
    "not-assigned",
    "unassigned",
    "undetermined",
    "uninitialized",
    "nullopt",
    "std::nullopt",
    "Optional(nil)",
    "None,None",
    "b''",
    "b'null'",
    "u'None'",
    "u''",
    "{\"id\":null}",
    "{\"id\":\"\"}",
    "user_id=null",
    "uid:undefined",
    "null@null",
    "undefined@undefined.undefined",
    "00000000-0000-0000-0000-00000000000",
    "11111111-1111-1111-1111-111111111111",
    "12345678-1234-1234-1234-123456789012",
    "${user.id ?: ''}",
    "{{ user.id | default: '' }}",
    "<%= user&.id %>",
    "{% if user %}{{ user.id }}{% endif %}",
    "#{user_id}",
    "[[${user.id}]]",
    "th:text=${user}",
    "{!User.Id}",
    "{{{user_id}}}",
    "%user_id%",
    "!user_id!",
    "%%=v(@SubscriberKey)=%%",
    "{$user_id}",
    "[user_id]",
    "[USER-ID]",
    "{USER:ID}",
    "(user.id)",
    "\u{ab}user_id\u{bb}",
    "\u{2039}ID\u{203a}",
    "\u{ff5b}uid\u{ff5d}",
];

#[test]
fn further_ways_to_write_that_there_is_no_id() {
    let missed: Vec<_> = FURTHER_NO_IDS
        .iter()
        .filter(|value| absence_of_id(value).is_none())
        .collect();
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn an_id_that_has_such_words_in_it_is_an_id() {
    for value in [
        "unknown-7",
        "unknown_artist",
        "guest_of_honour",
        "no-17",
        "nobody",
        "true_player",
        "null_island",
        "void",
        "b'7'",
        "u2",
        "b'anna'",
        "info",
        "infinite",
        "inf-1",
        "\u{ab}4711\u{bb}",
        "\u{ff11}\u{ff12}\u{ff13}",
        "\u{ff41}\u{ff4e}\u{ff4e}\u{ff41}",
        "11111111-1111-1111-1111-111111111112",
        "12345678",
        "1234567890",
    ] {
        let is_word = value == "void";
        assert_eq!(absence_of_id(value).is_some(), is_word, "{value}");
    }
}

#[test]
fn an_id_that_ends_with_undefined_is_none() {
    for value in [
        "undefinedundefined",
        "fb.1.undefined.undefined",
        "ORD2024-undefined",
        "order-4-Undefined",
    ] {
        assert_eq!(absence_of_id(value), Some(Absence::NoId), "{value}");
    }
    assert_eq!(absence_of_id(&format!("{}7", "0".repeat(39))), None);
}
