//! Request targets that are not valid URLs: what is corrected before hyper judges them.
//!
//! Senders other than browsers write some bytes as they are that browsers encode. Their meaning is
//! clear all the same:
//!
//! | in the target | becomes |
//! | --- | --- |
//! | `"` `<` `>` | its escape |
//! | a byte that is not UTF-8 | its escape |
//! | `#` | `&`, or `?` if no query has begun |
//!
//! No browser sends a fragment, so what follows a `#` was meant to arrive; hyper would drop it, and
//! it may be a consent signal. What RFC 9112, section 3, says not to correct stays as it is and is
//! refused: spaces and control characters, where two readers may see two different targets.

use memchr::memchr;

use crate::request::push_escaped;

/// Mends the target in the first line of a request's header.
pub fn mend(head: &mut Vec<u8>) {
    let Some(start) = head.iter().position(|byte| !matches!(byte, b'\r' | b'\n')) else {
        return;
    };
    let rest = head.get(start..).unwrap_or_default();
    let line = rest.get(..memchr(b'\n', rest).unwrap_or(rest.len()));
    let line = line.unwrap_or_default();
    // Without a branch, so that the compiler checks many bytes at once.
    if !line.iter().fold(false, |found, byte| found | is_odd(*byte)) {
        return;
    }
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return;
    };
    let start = start + method.len() + 1;
    let end = start + target.len();
    let mended = mend_target(target);
    head.splice(start..end, mended.into_bytes());
}

fn is_odd(byte: u8) -> bool {
    !byte.is_ascii() | (byte == b'"') | (byte == b'#') | (byte == b'<') | (byte == b'>')
}

/// Mends a target as [`mend`] does.
pub(crate) fn mend_target(target: &[u8]) -> String {
    let mut out = String::with_capacity(3 * target.len());
    let mut has_query = false;
    for chunk in target.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '#' => out.push(if has_query { '&' } else { '?' }),
                '"' => out.push_str("%22"),
                '<' => out.push_str("%3C"),
                '>' => out.push_str("%3E"),
                character => out.push(character),
            }
            has_query |= matches!(character, '?' | '#');
        }
        push_escaped(&mut out, chunk.invalid());
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mend_line(line: &[u8]) -> String {
        let mut head = [line, b"\r\nHost: \"a\"#\xff\r\n\r\n"].concat();
        mend(&mut head);
        let rest = head
            .strip_suffix(b"\r\nHost: \"a\"#\xff\r\n\r\n")
            .expect("the other lines as they were");
        String::from_utf8_lossy(rest).into_owned()
    }

    #[test]
    fn a_target_is_what_browsers_would_have_sent() {
        for (line, expected) in [
            (
                &b"GET /c?to=\"<x>\" HTTP/1.1"[..],
                "GET /c?to=%22%3Cx%3E%22 HTTP/1.1",
            ),
            (
                b"GET /c?q=caf\xe9&r=\xc3\xa5 HTTP/1.1",
                "GET /c?q=caf%E9&r=\u{e5} HTTP/1.1",
            ),
            (
                b"GET /c?q=\xff\xfe\x80 HTTP/1.1",
                "GET /c?q=%FF%FE%80 HTTP/1.1",
            ),
            (
                b"GET /c?u=a#b&gdpr=1#c HTTP/1.1",
                "GET /c?u=a&b&gdpr=1&c HTTP/1.1",
            ),
            (b"GET /c#b#c HTTP/1.1", "GET /c?b&c HTTP/1.1"),
            (b"GET /\xe5\xe4/<> HTTP/1.1", "GET /%E5%E4/%3C%3E HTTP/1.1"),
            (b"\r\nGET /<? HTTP/1.1", "\r\nGET /%3C? HTTP/1.1"),
            (
                b"GET http://a.example/?<> HTTP/1.1",
                "GET http://a.example/?%3C%3E HTTP/1.1",
            ),
        ] {
            assert_eq!(mend_line(line), expected);
        }
    }

    #[test]
    fn what_two_readers_may_read_differently_stays() {
        for line in [
            "GET /c?a=1&b='{}|^`\\%zz HTTP/1.1",
            "GET /c?a=< b HTTP/1.1",
            "GET  /c?a=< HTTP/1.1",
            "GET /c?a=<\tHTTP/1.1",
            "GET /c?<",
            "<",
            "",
            "\r\n",
        ] {
            assert_eq!(mend_line(line.as_bytes()), line);
        }
    }

    proptest! {
        #[test]
        fn hyper_accepts_a_mended_target_whatever_visible_bytes_it_had(
            query in prop::collection::vec(prop_oneof![0x21..0x7f_u8, 0x80..=0xff_u8], 0..60),
        ) {
            let mut head = [b"GET /p.gif?", &query[..], b" HTTP/1.1\r\n\r\n"].concat();
            mend(&mut head);
            let once = head.clone();
            mend(&mut head);
            prop_assert_eq!(&head, &once);
            let target = head.get(4..head.len() - 13).expect("a target");
            let uri = hyper::Uri::try_from(target).expect("hyper accepts it");
            prop_assert_eq!(uri.path(), "/p.gif");
            // Nothing is lost but the difference between a fragment and a parameter.
            let sent: Vec<u8> = query.iter().map(|byte| if *byte == b'#' { b'&' } else { *byte }).collect();
            let decode = |text: &[u8]| percent_encoding::percent_decode(text).collect::<Vec<u8>>();
            prop_assert_eq!(decode(uri.query().expect("a query").as_bytes()), decode(&sent));
        }
    }
}
