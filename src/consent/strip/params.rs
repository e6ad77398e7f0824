//! One pass over JSON text.

use std::borrow::Cow;
use std::cell::Cell;

use super::Rules;
use super::names::{Class, NAMES_OF_NAMES, class_of, class_of_schema, fold_name};
use super::text::{decode, has_scheme, holds_email, is_phone, is_position};
use crate::request::skip_blanks;

/// How deep values may be nested; nothing that a protocol reads is deeper.
pub(super) const DEPTH_MAX: usize = 130;
/// How often JSON text or an address may stand within a string of another.
pub(super) const WITHIN_MAX: usize = 6;

/// JSON whose strings and numbers are as they were sent.
enum Node<'t> {
    /// A number, `true`, `false` or `null`.
    Scalar(&'t str),
    /// What stands between quotes.
    Text(&'t str),
    List(Vec<Node<'t>>),
    Object(Vec<(&'t str, Node<'t>)>),
}

/// Where a value stands.
#[derive(Clone, Copy, Default)]
pub(super) struct Scope {
    /// In traits, at any depth.
    pub(super) in_traits: bool,
    /// In an object about a person.
    is_person: bool,
    /// In an object about a person, a device or a visit.
    is_owner: bool,
}

impl Scope {
    fn below(self, class: Option<Class>) -> Scope {
        let is_person = matches!(class, Some(Class::Person | Class::Traits | Class::Owner));
        Scope {
            in_traits: self.in_traits || class == Some(Class::Traits),
            is_person,
            is_owner: is_person,
        }
    }
}

/// One pass, and whether it has changed anything.
struct Pass<'p> {
    rules: &'p Rules<'p>,
    within: usize,
    is_changed: Cell<bool>,
}

impl Rules<'_> {
    /// Returns the further parameters without what may not stay; `None` if all of it may. What is
    /// no JSON cannot be judged.
    pub(super) fn strip_params(&self, json: &str) -> Option<String> {
        if json.is_empty() {
            return None;
        }
        match self.strip_json(json, 0) {
            Some(stripped) => stripped.map(|text| if text == "{}" { String::new() } else { text }),
            None if self.may_store => None,
            None => Some(String::new()),
        }
    }

    /// Strips JSON text: `None` if it is not JSON, `Some(None)` if all of it may stay.
    pub(super) fn strip_json(&self, json: &str, within: usize) -> Option<Option<String>> {
        if self.holds_nothing(json, within) {
            return Some(None);
        }
        self.rewrite_json(json, within)
    }

    /// The same of JSON text that may hold what has to leave.
    pub(super) fn rewrite_json(&self, json: &str, within: usize) -> Option<Option<String>> {
        let mut rest = json.trim();
        let node = parse(&mut rest, 0)?;
        if !rest.trim_start().is_empty() {
            return None;
        }
        let pass = Pass {
            rules: self,
            within,
            is_changed: Cell::new(false),
        };
        let mut out = String::with_capacity(json.len());
        if !pass.write(&node, Scope::default(), &mut out) {
            pass.is_changed.set(true);
            out.push_str("null");
        }
        Some(pass.is_changed.get().then_some(out))
    }
}

impl Pass<'_> {
    /// Writes a value. Returns false, and writes nothing, if it may not stay.
    fn write(&self, node: &Node<'_>, scope: Scope, out: &mut String) -> bool {
        match node {
            Node::Scalar(text) => out.push_str(text),
            Node::Text(inner) => return self.write_text(inner, scope, out),
            Node::List(items) => self.write_list(items, scope, out),
            Node::Object(members) => return self.write_object(members, scope, out),
        }
        true
    }

    fn write_text(&self, inner: &str, scope: Scope, out: &mut String) -> bool {
        let text = unescape(inner);
        // What is called harmlessly in traits may be an address for e-mail all the same.
        if scope.in_traits && holds_email(&text) {
            return false;
        }
        if self.rules.is_user(&text) {
            return !self.rules.hash.is_empty() && self.push_text(&self.rules.hash, out);
        }
        match self.rules.judge_text(&text, self.within) {
            Judged::Stays => {
                out.push('"');
                out.push_str(inner);
                out.push('"');
                true
            }
            Judged::Becomes(other) => self.push_text(&other, out),
            Judged::Leaves => false,
        }
    }

    fn push_text(&self, text: &str, out: &mut String) -> bool {
        self.is_changed.set(true);
        out.push_str(&serde_json::Value::from(text).to_string());
        true
    }

    /// Writes a list. A text or number that leaves becomes null, so that the others keep their
    /// places.
    fn write_list(&self, items: &[Node<'_>], scope: Scope, out: &mut String) {
        out.push('[');
        let begun = out.len();
        for (index, item) in items.iter().enumerate() {
            let before = out.len();
            if before > begun {
                out.push(',');
            }
            let is_value_of_name = index == 1 && items.len() == 2 && self.names_personal(items);
            if !is_value_of_name && self.write(item, scope, out) {
                continue;
            }
            self.is_changed.set(true);
            match item {
                Node::Object(_) => out.truncate(before),
                _ => out.push_str("null"),
            }
        }
        out.push(']');
    }

    /// Checks whether a pair of a name and its value is one that may not stay.
    fn names_personal(&self, pair: &[Node<'_>]) -> bool {
        match pair {
            [Node::Text(name), Node::Text(_) | Node::Scalar(_)] => {
                self.rules.is_personal(&unescape(name))
            }
            _ => false,
        }
    }

    fn write_object(&self, members: &[(&str, Node<'_>)], scope: Scope, out: &mut String) -> bool {
        let schema = members.iter().find_map(|(name, node)| match node {
            Node::Text(schema) if *name == "schema" => class_of_schema(schema),
            _ => None,
        });
        match schema {
            Some(Class::Position) if !self.rules.may_locate => return false,
            Some(Class::Traits) if !self.rules.may_store => return false,
            _ => {}
        }
        // A form's field, or a property, as `{"name": …, "value": …}`.
        let names_value = members.iter().any(|(name, node)| match node {
            Node::Text(text) if NAMES_OF_NAMES.contains(name) => {
                self.rules.is_personal(&unescape(text))
            }
            _ => false,
        });
        out.push('{');
        let begun = out.len();
        for (raw, node) in members {
            let before = out.len();
            if before > begun {
                out.push(',');
            }
            let name = unescape(raw);
            let is_its_value = names_value && matches!(&*name, "value" | "values" | "content");
            if is_its_value || !self.write_member(raw, &name, node, (scope, schema), out) {
                self.is_changed.set(true);
                out.truncate(before);
            }
        }
        out.push('}');
        true
    }

    fn write_member(
        &self,
        raw: &str,
        name: &str,
        node: &Node<'_>,
        (scope, schema): (Scope, Option<Class>),
        out: &mut String,
    ) -> bool {
        let class = class_of(name);
        let scalar = match node {
            Node::Scalar(text) | Node::Text(text) => Some(*text),
            Node::List(_) | Node::Object(_) => None,
        };
        if !self.rules.may_stay(class, name, scalar, scope) {
            return false;
        }
        if self.rules.is_user(name) {
            if self.rules.hash.is_empty() {
                return false;
            }
            self.push_text(&self.rules.hash, out);
        } else if !self.rules.may_store && holds_email(name) {
            return false;
        } else {
            out.push('"');
            out.push_str(raw);
            out.push('"');
        }
        out.push(':');
        // A number that is the user's ID is one only where it is called so.
        let is_user = matches!(node, Node::Scalar(number) if self.rules.is_user(number))
            && matches!(class, Some(Class::Id | Class::Person));
        if is_user {
            return !self.rules.hash.is_empty() && self.push_text(&self.rules.hash, out);
        }
        let below = self.rules.below(class, name, (scope, schema));
        self.write(node, below, out)
    }
}

/// What becomes of a text.
pub(super) enum Judged {
    Stays,
    Becomes(String),
    Leaves,
}

impl Rules<'_> {
    /// Decides by its name whether a member may stay. `scalar` is its value if that is a text or a
    /// number.
    pub(super) fn may_stay(
        &self,
        class: Option<Class>,
        name: &str,
        scalar: Option<&str>,
        scope: Scope,
    ) -> bool {
        let is_scalar = scalar.is_some();
        let is_direct = match class {
            Some(Class::Direct) => true,
            Some(Class::Address) => is_scalar,
            Some(Class::Phone) => scalar.is_some_and(is_phone),
            Some(Class::NameOfPerson) => scope.is_person,
            _ => false,
        };
        match class {
            Some(Class::Credential) => false,
            Some(Class::Position) => self.may_locate,
            Some(Class::Place) if scalar.is_none_or(is_position) => self.may_locate,
            Some(Class::Id | Class::Traits) => self.may_store,
            Some(Class::Person) => self.may_store || !is_scalar,
            Some(Class::IdOfOwner) => self.may_store || !scope.is_owner,
            _ if is_direct => self.may_store && (!scope.in_traits || self.keeps_trait(name)),
            _ => true,
        }
    }

    /// Returns where the value of a member stands.
    pub(super) fn below(
        &self,
        class: Option<Class>,
        name: &str,
        (scope, schema): (Scope, Option<Class>),
    ) -> Scope {
        let is_kept = scope.in_traits && self.keeps_trait(name);
        match (is_kept, name, schema) {
            (true, ..) => Scope::default(),
            (false, "data", Some(class)) => scope.below(Some(class)),
            _ => scope.below(class),
        }
    }

    fn keeps_trait(&self, name: &str) -> bool {
        !self.keep_traits.is_empty() && self.keep_traits.contains(&fold_name(name))
    }

    /// Checks whether a name, as a value, says that what comes with it may not stay.
    pub(super) fn is_personal(&self, name: &str) -> bool {
        match class_of(name) {
            Some(Class::Id | Class::Direct | Class::Person) => !self.may_store,
            Some(Class::Position) => !self.may_locate,
            Some(Class::Credential) => true,
            _ => false,
        }
    }

    /// Decides what becomes of a text that may hold JSON, an address or a query.
    pub(super) fn judge_text(&self, text: &str, within: usize) -> Judged {
        // JSON text may be quoted once more.
        let is_nested = matches!(skip_blanks(text).as_bytes(), [b'{' | b'[' | b'"', ..]);
        let has_pairs = memchr::memchr(b'=', text.as_bytes()).is_some() || has_scheme(text);
        let is_encoded = memchr::memchr(b'%', text.as_bytes()).is_some();
        if !is_nested && !has_pairs && !is_encoded {
            return match !self.may_store && holds_email(text) {
                true => Judged::Leaves,
                false => Judged::Stays,
            };
        }
        if within > WITHIN_MAX {
            return Judged::Leaves;
        }
        if is_nested {
            match self.strip_json(text, within + 1) {
                Some(stripped) => return stripped.map_or(Judged::Stays, Judged::Becomes),
                // JSON that was cut, say: what it names cannot be judged.
                None if !self.may_store && looks_like_json(text) => return Judged::Leaves,
                None => {}
            }
        }
        let stripped = match has_pairs {
            true => self.strip_url_within(text, within + 1),
            false => None,
        };
        let left = stripped.as_deref().unwrap_or(text);
        if !self.may_store && holds_email(left) {
            return Judged::Leaves;
        }
        if is_encoded && !has_pairs {
            let decoded = decode(text);
            let is_same =
                *decoded == *text || matches!(self.judge_text(&decoded, within + 1), Judged::Stays);
            if self.is_user(&decoded) || !is_same {
                return Judged::Leaves;
            }
        }
        stripped.map_or(Judged::Stays, Judged::Becomes)
    }
}

/// Checks whether a text that is no JSON was meant to be a list or an object: a name in quotes has
/// a value.
fn looks_like_json(text: &str) -> bool {
    if !skip_blanks(text).starts_with(['{', '[']) {
        return false;
    }
    let mut quotes = memchr::memchr_iter(b'"', text.as_bytes());
    quotes.any(|at| {
        let after = text.get(at + 1..).unwrap_or_default();
        skip_blanks(after).starts_with(':')
    })
}

/// Takes one value off a text.
fn parse<'t>(rest: &mut &'t str, depth: usize) -> Option<Node<'t>> {
    *rest = skip_blanks(rest);
    if depth > DEPTH_MAX {
        return None;
    }
    match rest.as_bytes().first()? {
        b'"' => take_string(rest).map(Node::Text),
        b'[' => {
            let mut items = Vec::new();
            take(rest, '[')?;
            if take(rest, ']').is_some() {
                return Some(Node::List(items));
            }
            loop {
                items.push(parse(rest, depth + 1)?);
                if take(rest, ',').is_none() {
                    take(rest, ']')?;
                    return Some(Node::List(items));
                }
            }
        }
        b'{' => {
            let mut members = Vec::new();
            take(rest, '{')?;
            if take(rest, '}').is_some() {
                return Some(Node::Object(members));
            }
            loop {
                *rest = skip_blanks(rest);
                let name = take_string(rest)?;
                take(rest, ':')?;
                members.push((name, parse(rest, depth + 1)?));
                if take(rest, ',').is_none() {
                    take(rest, '}')?;
                    return Some(Node::Object(members));
                }
            }
        }
        _ => take_scalar(rest).map(Node::Scalar),
    }
}

/// Takes a number, `true`, `false` or `null`.
pub(super) fn take_scalar<'t>(rest: &mut &'t str) -> Option<&'t str> {
    let is_end = |c: char| matches!(c, ',' | ']' | '}' | '"' | ':') || c.is_whitespace();
    let may_end = |byte: &u8| {
        matches!(byte, b',' | b']' | b'}' | b'"' | b':') || *byte <= b' ' || !byte.is_ascii()
    };
    let bytes = rest.as_bytes();
    let first = bytes.iter().position(may_end).unwrap_or(bytes.len());
    let end = rest.get(first..)?.find(is_end);
    let end = end.map_or(rest.len(), |end| first + end);
    let (scalar, after) = rest.split_at_checked(end)?;
    *rest = after;
    (!scalar.is_empty()).then_some(scalar)
}

/// Takes a character that comes next, whatever blanks stand before it.
pub(super) fn take(rest: &mut &str, character: char) -> Option<()> {
    *rest = skip_blanks(rest).strip_prefix(character)?;
    Some(())
}

/// Takes a string that a text begins with; returns what stands between its quotes.
fn take_string<'t>(rest: &mut &'t str) -> Option<&'t str> {
    take(rest, '"')?;
    let mut end = 0;
    loop {
        end += memchr::memchr2(b'"', b'\\', rest.as_bytes().get(end..)?)?;
        if rest.as_bytes().get(end) == Some(&b'"') {
            break;
        }
        end += 2;
    }
    let (inner, after) = rest.split_at_checked(end)?;
    *rest = after.get(1..)?;
    Some(inner)
}

/// Returns what a string means.
pub(super) fn unescape(inner: &str) -> Cow<'_, str> {
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Cow::Borrowed(inner);
    }
    let text = serde_json::from_str(&format!("\"{inner}\""));
    text.map_or(Cow::Borrowed(inner), Cow::Owned)
}
