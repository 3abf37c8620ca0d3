//! A `.deb`: an `ar` archive of `debian-binary`, `control.tar.*` and `data.tar.*` (deb(5)).

use std::io::{self, Read};

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER: usize = 60;

/// Why bytes are not a Debian package.
#[derive(Debug, thiserror::Error)]
pub enum ArError {
    /// They cannot be read.
    #[error("read a Debian package")]
    Read(#[source] io::Error),
    /// They are no archive of this kind.
    #[error("not a Debian package: {problem}")]
    Form {
        /// What is wrong.
        problem: &'static str,
    },
}

/// A package as it streams by, member after member.
pub struct Members<R> {
    reader: R,
    begun: bool,
    pad: bool,
}

impl<R: Read> Members<R> {
    /// Over the bytes of a package.
    pub fn new(reader: R) -> Self {
        Members { reader, begun: false, pad: false }
    }

    /// The next member: its name and its bytes, which must be read to their end before the next call.
    ///
    /// # Errors
    /// When the archive is torn or is none.
    pub fn next_member(&mut self) -> Result<Option<(String, io::Take<&mut R>)>, ArError> {
        if !self.begun {
            let mut magic = [0; 8];
            self.reader.read_exact(&mut magic).map_err(ArError::Read)?;
            if &magic != MAGIC {
                return Err(ArError::Form { problem: "it does not begin as an ar archive" });
            }
            self.begun = true;
        }
        if std::mem::take(&mut self.pad) {
            let mut newline = [0; 1];
            self.reader.read_exact(&mut newline).map_err(ArError::Read)?;
        }
        let mut header = [0; HEADER];
        let mut filled = 0;
        while filled < HEADER {
            match self.reader.read(&mut header[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(ArError::Form { problem: "it ends inside a member's header" }),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ArError::Read(error)),
            }
        }
        if &header[58..] != b"`\n" {
            return Err(ArError::Form { problem: "a member's header is malformed" });
        }
        let text = |range: std::ops::Range<usize>| {
            std::str::from_utf8(&header[range]).ok().map(|text| text.trim_end().to_owned())
        };
        let name = text(0..16).ok_or(ArError::Form { problem: "a member's name is malformed" })?;
        let size: u64 = text(48..58)
            .and_then(|size| size.parse().ok())
            .ok_or(ArError::Form { problem: "a member's size is malformed" })?;
        self.pad = size % 2 == 1;
        Ok(Some((name.trim_end_matches('/').to_owned(), (&mut self.reader).take(size))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(name: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes =
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100644, data.len()).into_bytes();
        bytes.extend_from_slice(data);
        if data.len() % 2 == 1 {
            bytes.push(b'\n');
        }
        bytes
    }

    #[test]
    fn members_come_in_order_with_their_bytes() {
        let deb =
            [MAGIC.as_slice(), &member("debian-binary", b"2.0\n"), &member("data.tar.xz/", b"odd")].concat();
        let mut members = Members::new(deb.as_slice());
        let mut seen = Vec::new();
        while let Some((name, mut bytes)) = members.next_member().unwrap() {
            let mut data = Vec::new();
            bytes.read_to_end(&mut data).unwrap();
            seen.push((name, data));
        }
        assert_eq!(
            seen,
            [("debian-binary".into(), b"2.0\n".to_vec()), ("data.tar.xz".into(), b"odd".to_vec())]
        );
    }

    #[test]
    fn what_is_torn_or_something_else_is_refused() {
        let whole = [MAGIC.as_slice(), &member("data.tar", b"data")].concat();
        let mut members = Members::new(&whole[..30]);
        assert!(matches!(
            members.next_member(),
            Err(ArError::Form { problem: "it ends inside a member's header" })
        ));
        let mut members = Members::new(b"PK\x03\x04....".as_slice());
        assert!(matches!(members.next_member(), Err(ArError::Form { .. })));
    }

    /// Reads all there is; the number of bytes in members.
    fn survive(bytes: &[u8]) -> Result<u64, ArError> {
        let (mut members, mut total) = (Members::new(bytes), 0);
        while let Some((name, mut data)) = members.next_member()? {
            assert!(name.len() <= 16);
            total += io::copy(&mut data, &mut io::sink()).map_err(ArError::Read)?;
        }
        Ok(total)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn any_bytes_come_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..300), magic in any::<bool>()) {
            let bytes = if magic { [MAGIC.as_slice(), &bytes].concat() } else { bytes };
            prop_assert!(survive(&bytes).is_ok_and(|total| total < bytes.len() as u64) || survive(&bytes).is_err());
        }

        #[test]
        fn a_damaged_package_gives_no_more_than_it_has(
            changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), b'0'..=b'9']), 1..6),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut bytes =
                [MAGIC.as_slice(), &member("debian-binary", b"2.0\n"), &member("data.tar.xz/", &[7; 99])].concat();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            if let Ok(total) = survive(&bytes) {
                prop_assert!(total <= bytes.len() as u64);
            }
        }
    }
}
