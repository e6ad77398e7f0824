//! Numbers from base64url text (RFC 4648, section 5, without padding), most significant bit first:
//! the basis of TC strings and GPP headers.

/// A position in a base64url text. A read past the end is `None`; nothing is copied.
pub(super) struct Bits<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Bits<'t> {
    /// Begins at the start of `text`; `None` where it is empty or has a character outside
    /// base64url.
    pub(super) fn new(text: &'t str) -> Option<Bits<'t>> {
        let text = text.as_bytes();
        let sound = !text.is_empty() && text.iter().all(|byte| sextet(*byte).is_some());
        sound.then_some(Bits { text, at: 0 })
    }

    /// Reads the next `bits` bits, at most 64, as a number.
    pub(super) fn number(&mut self, bits: usize) -> Option<u64> {
        let mut number = 0;
        let mut missing = bits;
        while missing > 0 {
            let sextet = sextet(*self.text.get(self.at / 6)?)?;
            let there = 6 - self.at % 6;
            let taken = there.min(missing);
            let piece = u64::from(sextet) >> (there - taken) & ((1 << taken) - 1);
            number = number << taken | piece;
            self.at += taken;
            missing -= taken;
        }
        Some(number)
    }

    /// Reads the next `bits` bits, at most 16.
    pub(super) fn short(&mut self, bits: usize) -> Option<u16> {
        self.number(bits)?.try_into().ok()
    }

    /// Reads the next bit.
    pub(super) fn flag(&mut self) -> Option<bool> {
        Some(self.number(1)? == 1)
    }

    /// Skips bits; `None` where there are not that many.
    pub(super) fn skip(&mut self, bits: usize) -> Option<()> {
        let at = self.at.checked_add(bits)?;
        (at <= self.text.len() * 6).then(|| self.at = at)
    }

    /// Checks that only padding is left: encoders fill up with zeros to 6, 8 or 24 bits.
    pub(super) fn ends(mut self) -> Option<()> {
        let left = self.text.len() * 6 - self.at;
        let first = left % 6;
        let partial = self.number(first)?;
        let rest = self.text.get(self.at / 6..)?;
        (partial == 0 && rest.iter().all(|byte| *byte == b'A')).then_some(())
    }
}

fn sextet(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    })
}
