//! A tar writer of the tests' own: every field can be set, right or wrong.

/// How what does not fit into a header is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Ustar,
    Gnu,
    Pax,
}

/// One header and its data.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: Vec<u8>,
    pub(super) kind: u8,
    pub(super) link: Vec<u8>,
    pub(super) mode: u64,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mtime: i64,
    pub(super) device: (u64, u64),
    pub(super) data: Vec<u8>,
    pub(super) records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Member {
    pub(super) fn new(kind: u8, name: impl AsRef<[u8]>) -> Self {
        Member {
            name: name.as_ref().to_vec(),
            kind,
            link: Vec::new(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 7,
            device: (0, 0),
            data: Vec::new(),
            records: Vec::new(),
        }
    }

    pub(super) fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        Member { data: data.as_ref().to_vec(), ..Member::new(b'0', name) }
    }

    pub(super) fn dir(name: impl AsRef<[u8]>) -> Self {
        Member::new(b'5', name)
    }

    pub(super) fn link(kind: u8, name: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Self {
        Member { link: to.as_ref().to_vec(), ..Member::new(kind, name) }
    }

    pub(super) fn record(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.records.push((key.into(), value.as_ref().to_vec()));
        self
    }

    /// The member with all headers before it.
    pub(super) fn write(&self, format: Format) -> Vec<u8> {
        let mut out = Vec::new();
        let mut records = self.records.clone();
        let mut say = |key: &str, value: String| records.push((key.into(), value.into_bytes()));
        if format == Format::Pax {
            let fits = |n: u64| n < 1 << 21;
            for (key, n) in [("uid", self.uid), ("gid", self.gid)] {
                if !fits(n) {
                    say(key, n.to_string());
                }
            }
            if !(0..1 << 33).contains(&self.mtime) {
                say("mtime", self.mtime.to_string());
            }
            if self.name.len() > 100 {
                records.push((b"path".into(), self.name.clone()));
            }
            if self.link.len() > 100 {
                records.push((b"linkpath".into(), self.link.clone()));
            }
        }
        if format == Format::Gnu {
            for (kind, long) in [(b'L', &self.name), (b'K', &self.link)] {
                if long.len() > 100 {
                    let data = [long, b"\0".as_slice()].concat();
                    out.extend(Member { data, ..Member::new(kind, "././@LongLink") }.write(Format::Ustar));
                }
            }
        }
        if !records.is_empty() {
            out.extend(
                Member { data: pax(&records), ..Member::new(b'x', "PaxHeaders/0") }.write(Format::Ustar),
            );
        }
        out.extend(self.header(format));
        out.extend(&self.data);
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }

    /// The header alone; numbers that do not fit are in base 256.
    pub(super) fn header(&self, format: Format) -> [u8; 512] {
        let mut block = [0; 512];
        let (prefix, name) = match (format, self.name.len()) {
            (Format::Ustar, 101..) => split(&self.name),
            _ => (&[][..], &self.name[..self.name.len().min(100)]),
        };
        block[..name.len()].copy_from_slice(name);
        let link = &self.link[..self.link.len().min(100)];
        block[157..157 + link.len()].copy_from_slice(link);
        number(&mut block[100..108], self.mode as i64);
        number(&mut block[108..116], self.uid as i64);
        number(&mut block[116..124], self.gid as i64);
        number(&mut block[124..136], self.data.len() as i64);
        number(&mut block[136..148], self.mtime);
        block[156] = self.kind;
        block[257..265].copy_from_slice(if format == Format::Gnu { b"ustar  \0" } else { b"ustar\x0000" });
        number(&mut block[329..337], self.device.0 as i64);
        number(&mut block[337..345], self.device.1 as i64);
        block[345..345 + prefix.len()].copy_from_slice(prefix);
        seal(&mut block);
        block
    }
}

/// Sets the checksum.
pub(super) fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block[..512].iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Members and the end of the archive.
pub(super) fn archive(format: Format, members: &[Member]) -> Vec<u8> {
    let mut out: Vec<u8> = members.iter().flat_map(|member| member.write(format)).collect();
    out.resize(out.len() + 1024, 0);
    out
}

/// PAX records with their lengths, which count their own digits.
pub(super) fn pax(records: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut len = rest + 1;
        while len != rest + len.to_string().len() {
            len += 1;
        }
        out.extend(format!("{len} ").into_bytes());
        out.extend([key, b"=".as_slice(), value, b"\n"].concat());
    }
    out
}

fn number(field: &mut [u8], value: i64) {
    let digits = field.len() - 1;
    if value >= 0 && (value as u64) < 1 << (3 * digits) {
        field[..digits].copy_from_slice(format!("{value:0digits$o}").as_bytes());
        return;
    }
    let fill = if value < 0 { 0xff } else { 0 };
    let bytes = value.to_be_bytes();
    field.fill(fill);
    let at = field.len().saturating_sub(8);
    let len = field.len() - at;
    field[at..].copy_from_slice(&bytes[8 - len..]);
    field[0] |= 0x80;
}

fn split(name: &[u8]) -> (&[u8], &[u8]) {
    let slash =
        (name.len() - 101..name.len().min(156)).find(|at| name[*at] == b'/').expect("a name ustar can hold");
    (&name[..slash], &name[slash + 1..])
}
