//! What the kernel's command line says to the loader.

use std::fmt;

/// The words that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cmdline {
    /// `kit.root=UUID`.
    pub root: Option<Uuid>,
    /// `root=/dev/..`: this device, whatever its ID.
    pub root_device: Option<String>,
    /// `kit.rootwait=SECONDS`: how long a disk may take to appear.
    pub root_wait_secs: u64,
    /// `kit.init=PATH`, or `init=PATH`.
    pub init: Option<String>,
    /// What is behind `--`: for init.
    pub init_args: Vec<String>,
}

/// A UUID in the order in which it is written (RFC 9562, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Uuid(pub [u8; 16]);

impl Uuid {
    /// 36 characters with dashes, in either case.
    pub fn parse(text: &str) -> Option<Uuid> {
        let dashes = [8, 13, 18, 23];
        let well_formed = text.len() == 36
            && text
                .bytes()
                .enumerate()
                .all(|(i, b)| if dashes.contains(&i) { b == b'-' } else { b.is_ascii_hexdigit() });
        well_formed.then_some(())?;
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let mut bytes = [0; 16];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok()?;
        }
        Some(Uuid(bytes))
    }

    /// As a GPT stores it: the first three groups little-endian (UEFI specification, appendix A).
    pub fn from_gpt(disk: [u8; 16]) -> Uuid {
        let d = disk;
        Uuid([
            d[3], d[2], d[1], d[0], d[5], d[4], d[7], d[6], d[8], d[9], d[10], d[11], d[12], d[13], d[14],
            d[15],
        ])
    }

    /// As a volume ID holds it: 32 capital digits.
    pub fn volume_id(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02X}")).collect()
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl Cmdline {
    /// Reads `/proc/cmdline`. A word that is malformed counts as not there; the last of several wins.
    pub fn parse(text: &str) -> Cmdline {
        let mut cmdline =
            Cmdline { root: None, root_device: None, root_wait_secs: 10, init: None, init_args: vec![] };
        let mut words = text.split_whitespace();
        for word in words.by_ref() {
            match word.split_once('=') {
                Some(("kit.root", value)) => cmdline.root = Uuid::parse(value),
                Some(("root", value)) if value.starts_with("/dev/") && value != "/dev/ram0" => {
                    cmdline.root_device = Some(value.into());
                }
                Some(("kit.rootwait", value)) => {
                    cmdline.root_wait_secs = value.parse().unwrap_or(cmdline.root_wait_secs);
                }
                Some(("kit.init" | "init", value)) if value.starts_with('/') => {
                    cmdline.init = Some(value.into())
                }
                None if word == "--" => break,
                _ => {}
            }
        }
        cmdline.init_args = words.map(str::to_owned).collect();
        // An ID says more than a place.
        if cmdline.root.is_some() {
            cmdline.root_device = None;
        }
        cmdline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_found_among_others() {
        let id = "0123abcd-0000-8000-8000-00000000000f";
        let cmdline = Cmdline::parse(&format!(
            "quiet console=ttyS0 kit.root={id} root=/dev/sda1 kit.rootwait=3 -- single\n"
        ));
        assert_eq!(cmdline.root.unwrap().to_string(), id);
        assert_eq!((cmdline.root_device, cmdline.root_wait_secs), (None, 3));
        assert_eq!(cmdline.init_args, ["single"]);
    }

    #[test]
    fn what_is_no_uuid_is_none() {
        for wrong in ["", "x", "0123abcd000080008000-00000000000f", "0123abcd-0000-8000-8000-00000000000é"] {
            assert_eq!(Uuid::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_orders_of_a_uuid_agree() {
        let uuid = Uuid::parse("00112233-4455-6677-8899-aabbccddeeff").unwrap();
        let disk =
            [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
        assert_eq!(Uuid::from_gpt(disk), uuid);
        assert_eq!(uuid.volume_id(), "00112233445566778899AABBCCDDEEFF");
    }
}
