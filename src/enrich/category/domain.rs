//! From what a hit says of its page, and from the entries of lists, to the names of domains.
//!
//! | text | name |
//! | --- | --- |
//! | `https://me@Blog.Example.se.:443/a` | `blog.example.se` |
//! | `https://räksmörgås.se/` | `xn--rksmrgs-5wao1o.se` |
//! | `http://192.0.2.1/`, `http://[::1]/`, `http://0x7f.1/` | none |
//! | `data:…`, `about:blank`, `file:///…`, `app://…` | none |
//! | an empty label, or more than 63 bytes of one or 253 of all | none |

use url::Host;

/// The longest name of a host, in bytes, and the longest label (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Returns the authority of an http or https URL, as it is written.
pub(super) fn authority(url: &str) -> Option<&str> {
    // What browsers skip before a URL.
    let start = url.bytes().position(|byte| byte > b' ')?;
    let url = url.get(start..)?;
    let rest = match url.as_bytes() {
        [b'/', b'/', ..] => url,
        _ => {
            let (scheme, rest) = url.split_once(':')?;
            let is_web =
                scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
            is_web.then_some(rest)?
        }
    };
    // Browsers take a backslash for a slash, and any number of them.
    let is_slash = |byte: &u8| matches!(byte, b'/' | b'\\');
    let slashes = rest.bytes().take_while(is_slash).count();
    let authority = rest.get(slashes..).filter(|_| slashes > 0)?;
    let is_end = |byte| is_slash(&byte) || matches!(byte, b'?' | b'#');
    let end = authority.bytes().position(is_end);
    authority.get(..end.unwrap_or(authority.len()))
}

/// Returns the name of the host in an authority.
pub(super) fn name_of(authority: &str) -> Option<String> {
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => host,
    };
    name(host)
}

/// Returns the name of a host in lower case, in ASCII and without a dot at its end; `None` for an
/// address and for what is no name.
pub(super) fn name(host: &str) -> Option<String> {
    // Lengths do not grow where a name is read, but for letters beyond ASCII.
    if host.len() > 4 * NAME_BYTES_MAX {
        return None;
    }
    let Ok(Host::Domain(mut name)) = Host::parse(host) else {
        return None;
    };
    if name.ends_with('.') {
        name.pop();
    }
    let is_label = |label: &str| (1..=LABEL_BYTES_MAX).contains(&label.len());
    (name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label)).then_some(name)
}

/// Returns the registrable domain of a host's name: what somebody registered below a public suffix
/// such as `se`, `co.uk` or `github.io`.
pub(super) fn registrable(name: &str) -> Option<&str> {
    psl::domain_str(name)
}

/// Returns the name of a publisher that is a bare domain. The ID of an app is none, though it has
/// dots: `se.tv4.play` and `com.example.app` are reversed.
pub(super) fn bare_name(publisher: &str) -> Option<String> {
    let authority = publisher.split(['/', '?', '#']).next()?;
    let name = name_of(authority.trim())?;
    let labels: Vec<&str> = name.split('.').collect();
    let is_known = psl::suffix(name.as_bytes()).is_some_and(|suffix| suffix.is_known());
    if !is_known || is_reversed(&labels) {
        return None;
    }
    Some(name)
}

/// Returns whether labels begin with a top-level domain, so that they are probably reversed. A
/// country's counts only where the last label is no country's and none of the usual three:
/// `tv.example.se` and `se.example.com` are hosts.
fn is_reversed(labels: &[&str]) -> bool {
    const USUAL: [&str; 3] = ["com", "net", "org"];
    let [first, _, .., last] = labels else {
        return false;
    };
    let is_country = |label: &str| {
        label.len() == 2 && psl::suffix(label.as_bytes()).is_some_and(|suffix| suffix.is_known())
    };
    USUAL.contains(first) || is_country(first) && !is_country(last) && !USUAL.contains(last)
}
