//! A glance at JSON text, which most often finds that all of it may stay.
//!
//! It asks what the pass that writes asks ([`super::params`]), in the order of the text, and keeps
//! nothing. Where an answer depends on what comes later, or something has to leave, it ends: then
//! the other pass decides. So it may only ever say that all may stay where the other one finds that
//! too; a test compares the two.

use memchr::memchr3;

use super::Rules;
use super::names::{Class, NAMES_OF_NAMES, class_of, class_of_schema};
use super::params::{
    DEPTH_MAX, Judged, Scope, WITHIN_MAX, take, take_scalar, take_string, unescape,
};
use super::text::holds_email;
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
            b'"' => self.text(take_string(rest)?, scope),
            b'[' => self.list(rest, scope, depth),
            b'{' => self.object(rest, scope, depth),
            _ => take_scalar(rest).map(drop),
        }
    }

    fn text(&self, inner: &str, scope: Scope) -> Stays {
        let text = unescape(inner);
        let text = &*text;
        only_if(!self.rules.is_user(text) && (!scope.in_traits || !holds_email(text)))?;
        if skip_blanks(text).starts_with(['{', '[', '"']) {
            // Each text within another is looked at once more, and never written twice.
            let is_near = self.within <= WITHIN_MAX;
            return only_if(is_near && self.rules.holds_nothing(text, self.within + 1));
        }
        if memchr3(b'=', b'%', b':', text.as_bytes()).is_none() {
            return only_if(self.rules.may_store || !holds_email(text));
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
        if let Some(name) = peek_text(rest)? {
            only_if(!self.rules.is_personal(&unescape(name)))?;
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
            *rest = skip_blanks(rest);
            let name = take_string(rest)?;
            take(rest, ':')?;
            if let Some(text) = peek_text(rest)? {
                if name == "schema" && schema.is_none() {
                    schema = class_of_schema(text);
                    // It would have counted for what stands before it.
                    only_if(schema.is_none() || !has_data)?;
                    only_if(self.rules.may_locate || schema != Some(Class::Position))?;
                    only_if(self.rules.may_store || schema != Some(Class::Traits))?;
                }
                let names = NAMES_OF_NAMES.contains(&name);
                only_if(!names || !self.rules.is_personal(&unescape(text)))?;
            }
            let name = unescape(name);
            has_data |= name == "data";
            self.member(&name, rest, (scope, schema), depth)?;
            if take(rest, ',').is_none() {
                return take(rest, '}');
            }
        }
    }

    fn member(
        &self,
        name: &str,
        rest: &mut &str,
        (scope, schema): (Scope, Option<Class>),
        depth: usize,
    ) -> Stays {
        let class = class_of(name);
        let is_nested = rest.starts_with(['{', '[']);
        let scalar = match peek_text(rest)? {
            Some(text) => Some(text),
            None if is_nested => None,
            None => take_scalar(&mut &**rest),
        };
        only_if(self.rules.may_stay(class, name, scalar, scope))?;
        only_if(!self.rules.is_user(name) && (self.rules.may_store || !holds_email(name)))?;
        // Where a number is the user's ID, the other pass decides.
        only_if(!scalar.is_some_and(|scalar| self.rules.is_user(scalar)))?;
        let below = self.rules.below(class, name, (scope, schema));
        self.value(rest, below, depth + 1)
    }
}

/// Returns what stands between the quotes of a string that a text begins with, after blanks, if it
/// begins with one. `None` if the string does not end.
fn peek_text<'t>(rest: &mut &'t str) -> Option<Option<&'t str>> {
    *rest = skip_blanks(rest);
    if !rest.starts_with('"') {
        return Some(None);
    }
    take_string(&mut &**rest).map(Some)
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
