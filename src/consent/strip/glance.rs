//! A glance at JSON text, which most often finds that all of it may stay.
//!
//! It asks what the pass that writes asks ([`super::params`]), in the order of the text, and keeps
//! nothing. Where an answer depends on what comes later, or something has to leave, it ends: then
//! the other pass decides. So it may only ever say that all may stay where the other one finds that
//! too; a test compares the two.

use std::borrow::Cow;

use super::Rules;
use super::names::{Class, NAMES_OF_NAMES, class_of, class_of_schema};
use super::params::{DEPTH_MAX, Judged, Scope, WITHIN_MAX, take, take_scalar, unescape};
use super::text::{has_scheme, holds_email};
use crate::request::quoted::{AT, COLON, EQUALS, PERCENT, Quoted, marks_of};
use crate::request::skip_blanks;

/// A glance at one text.
struct Glance<'g> {
    rules: &'g Rules<'g>,
    within: usize,
}

/// Says that all that was looked at may stay; `None` where that is not known.
type Stays = Option<()>;

fn only_if(holds: bool) -> Stays {
    holds.then_some(())
}

impl Rules<'_> {
    /// Checks whether JSON text is sound and all of it may stay. False says nothing.
    pub(super) fn holds_nothing(&self, json: &str, within: usize) -> bool {
        let glance = Glance {
            rules: self,
            within,
        };
        let mut rest = json.trim();
        glance.value(&mut rest, Scope::default(), 0).is_some() && skip_blanks(rest).is_empty()
    }
}

impl Glance<'_> {
    fn value(&self, rest: &mut &str, scope: Scope, depth: usize) -> Stays {
        *rest = skip_blanks(rest);
        only_if(depth <= DEPTH_MAX)?;
        match rest.as_bytes().first()? {
            b'"' => self.text(take_quoted(rest)??, scope),
            b'[' => self.list(rest, scope, depth),
            b'{' => self.object(rest, scope, depth),
            _ => take_scalar(rest).map(drop),
        }
    }

    fn text(&self, quoted: Quoted<'_>, scope: Scope) -> Stays {
        if quoted.is_escaped() {
            let text = unescape(quoted.inner);
            return self.meaning(&text, marks_of(&text), scope);
        }
        self.meaning(quoted.inner, quoted.marks(), scope)
    }

    /// Glances at what a string means, of which the marks are known.
    fn meaning(&self, text: &str, marks: u8, scope: Scope) -> Stays {
        let may_hold_email = marks & (AT | PERCENT) != 0 || !text.is_ascii();
        let has_email = || may_hold_email && holds_email(text);
        only_if(!self.rules.is_user(text) && (!scope.in_traits || !has_email()))?;
        if let b"{" | b"[" | b"\"" = skip_blanks(text).as_bytes().get(..1).unwrap_or_default() {
            // Each text within another is looked at once more, and never written twice.
            let is_near = self.within <= WITHIN_MAX;
            return only_if(is_near && self.rules.holds_nothing(text, self.within + 1));
        }
        let may_hold_more =
            marks & (EQUALS | PERCENT) != 0 || marks & COLON != 0 && has_scheme(text);
        if !may_hold_more {
            return only_if(self.rules.may_store || !has_email());
        }
        let stays = || matches!(self.rules.judge_text(text, self.within), Judged::Stays);
        only_if(self.within == 0 && stays())
    }

    fn list(&self, rest: &mut &str, scope: Scope, depth: usize) -> Stays {
        take(rest, '[')?;
        if take(rest, ']').is_some() {
            return Some(());
        }
        // A pair may be a name and its value.
        if let Some(name) = take_quoted(&mut &**rest)? {
            only_if(!self.rules.is_personal(&unescape(name.inner)))?;
        }
        loop {
            self.value(rest, scope, depth + 1)?;
            if take(rest, ',').is_none() {
                return take(rest, ']');
            }
        }
    }

    fn object(&self, rest: &mut &str, scope: Scope, depth: usize) -> Stays {
        take(rest, '{')?;
        if take(rest, '}').is_some() {
            return Some(());
        }
        let (mut schema, mut has_data) = (None, false);
        loop {
            let name = take_name(rest)?;
            take(rest, ':')?;
            let text = take_quoted(rest)?;
            if let Some(text) = text {
                if name.inner == "schema" && schema.is_none() {
                    schema = class_of_schema(text.inner);
                    // It would have counted for what stands before it.
                    only_if(schema.is_none() || !has_data)?;
                    only_if(self.rules.may_locate || schema != Some(Class::Position))?;
                    only_if(self.rules.may_store || schema != Some(Class::Traits))?;
                }
                let names = NAMES_OF_NAMES.contains(&name.inner);
                only_if(!names || !self.rules.is_personal(&unescape(text.inner)))?;
            }
            let name = match name.is_escaped() {
                true => unescape(name.inner),
                false => Cow::Borrowed(name.inner),
            };
            has_data |= name == "data";
            self.member((&name, text), rest, (scope, schema), depth)?;
            if take(rest, ',').is_none() {
                return take(rest, '}');
            }
        }
    }

    /// Glances at a member: its name, and its value if that is a text. Any other begins `rest`.
    fn member(
        &self,
        (name, text): (&str, Option<Quoted<'_>>),
        rest: &mut &str,
        (scope, schema): (Scope, Option<Class>),
        depth: usize,
    ) -> Stays {
        let class = class_of(name);
        let is_nested = text.is_none() && matches!(rest.as_bytes(), [b'{' | b'[', ..]);
        let scalar = match text {
            Some(text) => Some(text.inner),
            None if is_nested => None,
            None => Some(take_scalar(rest)?),
        };
        only_if(self.rules.may_stay(class, name, scalar, scope))?;
        only_if(!self.rules.is_user(name) && (self.rules.may_store || !holds_email(name)))?;
        // Where a number is the user's ID, the other pass decides.
        only_if(!scalar.is_some_and(|scalar| self.rules.is_user(scalar)))?;
        let below = self.rules.below(class, name, (scope, schema));
        if is_nested {
            return self.value(rest, below, depth + 1);
        }
        only_if(depth < DEPTH_MAX)?;
        text.map_or(Some(()), |text| self.text(text, below))
    }
}

/// Takes the name of a member that a text begins with, after blanks.
fn take_name<'t>(rest: &mut &'t str) -> Option<Quoted<'t>> {
    let (quoted, after) = Quoted::split_name(skip_blanks(rest).strip_prefix('"')?)?;
    *rest = after;
    Some(quoted)
}

/// Takes a string that a text begins with, after blanks, if it begins with one. `None` if the
/// string does not end.
fn take_quoted<'t>(rest: &mut &'t str) -> Option<Option<Quoted<'t>>> {
    *rest = skip_blanks(rest);
    let Some(within) = rest.strip_prefix('"') else {
        return Some(None);
    };
    let (quoted, after) = Quoted::split_text(within)?;
    *rest = after;
    Some(Some(quoted))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: &[&str] = &[
        "x",
        "id",
        "_id",
        "name",
        "key",
        "type",
        "value",
        "values",
        "content",
        "user",
        "userId",
        "traits",
        "data",
        "schema",
        "lat",
        "location",
        "coords",
        "email",
        "address",
        "billing",
        "client_session",
        "a@b.example",
        "u-42",
        "user.traits.plan",
        "device[id]",
        "na\\u006de",
        "%75id",
        "_ga_X1",
        "referrer",
    ];
    const TEXTS: &[&str] = &[
        "",
        "x",
        "sv-SE",
        "u-42",
        "a@shop.example",
        "a%40shop.example",
        "59.33",
        "59.33,18.06",
        "email",
        "user_id",
        "iglu:com.acme/user/jsonschema/1-0-0",
        "10:20",
        "a=b",
        "uid=7",
        "50 %",
        "iglu:com.snowplowanalytics.snowplow/client_session/jsonschema/1-0-2",
        "%7B%22uid%22%3A7%7D",
        "iglu:com.snowplowanalytics.snowplow/geolocation_context/jsonschema/1-1-0",
        "https://shop.example/p/1?utm_source=news",
        "https://shop.example/?gclid=7#a",
        "{",
        "[1,2]",
        r#"{\"plan\":\"pro\"}"#,
        r#"{\"email\":\"x\"}"#,
        r#"\"u-42\""#,
        "\\u0061",
        "r\u{e4}ka",
        "a\u{ff20}shop\u{3002}example",
        "{\\\"uid\\\":\\\"7",
    ];

    /// Returns JSON of what the passes tell apart, and sometimes text that is not JSON.
    fn json() -> impl Strategy<Value = String> {
        let text = || proptest::sample::select(TEXTS).prop_map(|text| format!("\"{text}\""));
        let scalar =
            proptest::sample::select(&["7", "59.33", "null", "true", "42", "", "u-42"][..]);
        let leaf = prop_oneof![3 => text(), 1 => scalar.prop_map(str::to_owned)];
        leaf.prop_recursive(5, 40, 5, move |inner| {
            let member = (proptest::sample::select(NAMES), inner.clone());
            let member = member.prop_map(|(name, value)| format!(" \"{name}\" :{value}"));
            let list = |items: Vec<String>, open, close| format!("{open}{}{close}", items.join(","));
            prop_oneof![
                3 => proptest::collection::vec(member, 0..5).prop_map(move |all| list(all, '{', '}')),
                1 => proptest::collection::vec(inner.clone(), 0..4)
                    .prop_map(move |all| list(all, '[', ']')),
                1 => inner.prop_map(|json| serde_json::Value::from(json).to_string()),
            ]
        })
    }

    fn rules<'r>(may: (bool, bool), user: &'r str, keep_traits: &'r [String]) -> Rules<'r> {
        Rules {
            may_store: may.0,
            may_locate: may.1,
            keep_traits,
            user,
            hash: if may.0 {
                "h-1".to_owned()
            } else {
                String::new()
            },
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn where_a_glance_finds_nothing_the_pass_that_writes_changes_nothing(
            json in json(),
            may in any::<(bool, bool)>(),
            names_user in any::<bool>(),
            keeps in any::<bool>(),
            within in 0..=WITHIN_MAX + 2,
        ) {
            let kept = if keeps { vec!["email".to_owned(), "name".to_owned()] } else { Vec::new() };
            let rules = rules(may, if names_user { "u-42" } else { "" }, &kept);
            if rules.holds_nothing(&json, within) {
                prop_assert_eq!(rules.rewrite_json(&json, within), Some(None));
            }
        }
    }

    #[test]
    fn a_glance_is_enough_for_what_pages_usually_send() {
        let all = rules((true, true), "", &[]);
        let none = rules((false, false), "", &[]);
        let pixel = r#"{"sw":"1024","sh":"768","l":"sv-SE","product":"phone-3","price":"19.90"}"#;
        assert!(all.holds_nothing(pixel, 0) && none.holds_nothing(pixel, 0));
        let contexts = r#"{"e":"pv","page":"R\u00e4k","co":[{"schema":"iglu:com.acme/a/jsonschema/1-0-0","data":{"a":[1,{"b":null}],"at":"2026-11-26T17:38:10.475Z"}},{"schema":"iglu:com.snowplowanalytics.snowplow/client_session/jsonschema/1-0-2","data":{"userId":"6968","sessionIndex":1}}]}"#;
        assert!(all.holds_nothing(contexts, 0) && !none.holds_nothing(contexts, 0));
    }
}
