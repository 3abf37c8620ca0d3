//! A machine to start: what it boots, its processors, memory, disks and networks. Every monitor is given this one value.

use crate::artifact::{Arch, Artifact, Boot, Firmware};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A machine, complete: a monitor needs nothing else to start it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Its name, also the name it is found by once detached.
    pub name: Name,
    /// Its architecture.
    pub arch: Arch,
    /// Virtual processors, at least 1.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// What it boots.
    pub boot: BootSource,
    /// Further disks, in order.
    pub disks: Vec<Disk>,
    /// Network interfaces, in order.
    pub nets: Vec<Net>,
}

/// A machine's name: letters, digits, `-`, `_` and `.`, 1 to 63 of them, no leading dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// What a machine boots, with paths that can be opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum BootSource {
    /// The monitor loads a kernel.
    Kernel {
        /// The kernel.
        kernel: PathBuf,
        /// The initrd.
        initrd: PathBuf,
        /// The command line.
        cmdline: String,
        /// A read-only disk that holds the root.
        root: Option<PathBuf>,
    },
    /// The firmware boots a disk or a CD.
    Image {
        /// The image.
        image: PathBuf,
        /// What it is plugged in as.
        medium: Medium,
        /// The firmware.
        firmware: Firmware,
    },
}

/// What a boot image is plugged in as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Medium {
    /// A CD drive.
    Cd,
    /// A disk. The file itself is not written to: what the guest writes is lost with the machine.
    Disk,
}

/// A disk of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// The file.
    pub path: PathBuf,
    /// How its bytes are laid out.
    pub format: DiskFormat,
    /// True if the guest may not write.
    pub readonly: bool,
}

/// How a disk's bytes are laid out in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// As they are.
    Raw,
    /// QEMU's.
    Qcow2,
}

/// A network interface of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Net {
    /// Behind the monitor's own NAT, with host ports that lead in.
    User {
        /// The ports.
        publish: Vec<Publish>,
    },
}

/// A host port that leads into a machine: `[ADDRESS:]HOST:GUEST[/tcp|udp]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Publish {
    /// The host's address; loopback unless said otherwise.
    pub address: Ipv4Addr,
    /// The host's port.
    pub host: u16,
    /// The guest's port.
    pub guest: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What may be chosen about a machine that boots an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its name.
    pub name: Name,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Further disks.
    pub disks: Vec<Disk>,
    /// Network interfaces.
    pub nets: Vec<Net>,
    /// The firmware, where the artifact leaves a choice; BIOS before UEFI unless given.
    pub firmware: Option<Firmware>,
    /// What a boot image is plugged in as; an ISO is a CD unless given.
    pub medium: Option<Medium>,
}

/// Why no machine can be made of an artifact, or a word is no part of one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MachineError {
    /// Nothing boots it.
    #[error(
        "an artifact of format {format} cannot be booted: build one of kernel+initrd, kernel+squashfs, iso, raw-efi"
    )]
    NotBootable {
        /// Its format.
        format: crate::artifact::Format,
    },
    /// The firmware asked for is not one that can boot it.
    #[error("an artifact of format {format} does not boot by {firmware}")]
    Firmware {
        /// Its format.
        format: crate::artifact::Format,
        /// What was asked for.
        firmware: Firmware,
    },
    /// A number out of range.
    #[error("{value} {what} are not possible: {limit}")]
    Range {
        /// What it counts.
        what: &'static str,
        /// How many were asked for.
        value: u32,
        /// What is possible.
        limit: &'static str,
    },
    /// A name of another form.
    #[error("`{name}` is not a machine's name: 1 to 63 letters, digits, `-`, `_`, `.`, no leading dot")]
    Name {
        /// The word.
        name: String,
    },
    /// A port mapping of another form.
    #[error("`{text}` is not a port mapping: write [ADDRESS:]HOST:GUEST[/tcp|udp], ports from 1 to 65535")]
    Publish {
        /// The word.
        text: String,
    },
}

impl Machine {
    /// The machine that boots an artifact whose files lie in `dir`.
    ///
    /// # Errors
    /// When nothing boots that format, the firmware does not fit, or a number is out of range.
    pub fn new(artifact: &Artifact, dir: &Path, options: Options) -> Result<Machine, MachineError> {
        let Options { name, cpus, memory_mib, disks, nets, firmware, medium } = options;
        if !(1..=255).contains(&cpus) {
            return Err(MachineError::Range { what: "processors", value: cpus, limit: "1 to 255" });
        }
        if memory_mib < 32 {
            return Err(MachineError::Range {
                what: "MiB of memory",
                value: memory_mib,
                limit: "at least 32",
            });
        }
        let choose = |possible: &[Firmware]| {
            let chosen = firmware.or_else(|| possible.iter().min().copied());
            chosen.filter(|f| possible.contains(f)).ok_or(match firmware {
                Some(firmware) => MachineError::Firmware { format: artifact.format, firmware },
                None => MachineError::NotBootable { format: artifact.format },
            })
        };
        let boot = match &artifact.boot {
            Boot::Kernel { kernel, initrd, cmdline, root } => {
                if let Some(firmware) = firmware {
                    return Err(MachineError::Firmware { format: artifact.format, firmware });
                }
                let root = root.as_ref().map(|root| dir.join(root));
                BootSource::Kernel {
                    kernel: dir.join(kernel),
                    initrd: dir.join(initrd),
                    cmdline: cmdline.clone(),
                    root,
                }
            }
            Boot::Disk { image, firmware } => BootSource::Image {
                image: dir.join(image),
                medium: medium.unwrap_or(Medium::Disk),
                firmware: choose(firmware)?,
            },
            Boot::Iso { image, firmware } => BootSource::Image {
                image: dir.join(image),
                medium: medium.unwrap_or(Medium::Cd),
                firmware: choose(firmware)?,
            },
            Boot::None => return Err(MachineError::NotBootable { format: artifact.format }),
        };
        Ok(Machine { name, arch: artifact.arch, cpus, memory_mib, boot, disks, nets })
    }
}

impl Name {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = MachineError;

    fn try_from(name: String) -> Result<Self, MachineError> {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if plain && (1..=63).contains(&name.len()) && !name.starts_with('.') {
            Ok(Name(name))
        } else {
            Err(MachineError::Name { name })
        }
    }
}

impl FromStr for Name {
    type Err = MachineError;

    fn from_str(name: &str) -> Result<Self, MachineError> {
        name.to_owned().try_into()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Publish {
    type Err = MachineError;

    fn from_str(text: &str) -> Result<Self, MachineError> {
        let wrong = || MachineError::Publish { text: text.into() };
        let (ports, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some(_) => return Err(wrong()),
        };
        let port = |word: &str| word.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(wrong);
        let (rest, guest) = ports.rsplit_once(':').ok_or_else(wrong)?;
        let (address, host) = match rest.rsplit_once(':') {
            Some((address, host)) => (address.parse().map_err(|_| wrong())?, host),
            None => (Ipv4Addr::LOCALHOST, rest),
        };
        Ok(Publish { address, host: port(host)?, guest: port(guest)?, protocol })
    }
}

impl TryFrom<String> for Publish {
    type Error = MachineError;

    fn try_from(text: String) -> Result<Self, MachineError> {
        text.parse()
    }
}

impl From<Publish> for String {
    fn from(publish: Publish) -> String {
        publish.to_string()
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{}:{}:{}/{protocol}", self.address, self.host, self.guest)
    }
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Firmware::Bios => "BIOS",
            Firmware::Uefi => "UEFI",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::{ArtifactFile, Format, VERSION};

    fn artifact(format: Format, boot: Boot) -> Artifact {
        let files = vec![ArtifactFile { path: "n.img".into(), size: 0, sha256: String::new() }];
        Artifact { version: VERSION, name: "n".into(), format, arch: Arch::Amd64, boot, files }
    }

    fn options() -> Options {
        let name = "n".parse().unwrap();
        Options { name, cpus: 2, memory_mib: 512, disks: vec![], nets: vec![], firmware: None, medium: None }
    }

    #[test]
    fn an_iso_is_a_cd_that_boots_by_bios_unless_said_otherwise() {
        let boot = Boot::Iso { image: "n.img".into(), firmware: vec![Firmware::Uefi, Firmware::Bios] };
        let machine = Machine::new(&artifact(Format::Iso, boot), Path::new("/out"), options()).unwrap();
        let expected =
            BootSource::Image { image: "/out/n.img".into(), medium: Medium::Cd, firmware: Firmware::Bios };
        assert_eq!(machine.boot, expected);
    }

    #[test]
    fn a_firmware_that_does_not_fit_is_refused() {
        let boot = Boot::Disk { image: "n.img".into(), firmware: vec![Firmware::Uefi] };
        let options = Options { firmware: Some(Firmware::Bios), ..options() };
        let error = Machine::new(&artifact(Format::RawEfi, boot), Path::new("/"), options).unwrap_err();
        assert_eq!(error.to_string(), "an artifact of format raw-efi does not boot by BIOS");
    }

    #[test]
    fn a_tar_does_not_boot() {
        let error = Machine::new(&artifact(Format::Tar, Boot::None), Path::new("/"), options()).unwrap_err();
        assert!(matches!(error, MachineError::NotBootable { .. }));
    }

    #[test]
    fn port_mappings_parse_or_say_how_to_write_them() {
        let publish: Publish = "8080:80".parse().unwrap();
        assert_eq!(publish.to_string(), "127.0.0.1:8080:80/tcp");
        assert_eq!("0.0.0.0:53:5353/udp".parse::<Publish>().unwrap().to_string(), "0.0.0.0:53:5353/udp");
        for wrong in ["80", "a:80", "0:80", "80:70000", "1.2.3:1:2", "1:2/icmp", ""] {
            assert_eq!(wrong.parse::<Publish>(), Err(MachineError::Publish { text: wrong.into() }));
        }
    }

    #[test]
    fn names_are_plain() {
        for wrong in ["", ".x", "a/b", "a b", &"x".repeat(64)] {
            assert!(wrong.parse::<Name>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_machine_reads_back_from_its_json() {
        let boot = Boot::Iso { image: "n.img".into(), firmware: vec![Firmware::Bios] };
        let nets = vec![Net::User { publish: vec!["8080:80".parse().unwrap()] }];
        let options = Options { nets, ..options() };
        let machine = Machine::new(&artifact(Format::Iso, boot), Path::new("/out"), options).unwrap();
        let json = serde_json::to_string(&machine).unwrap();
        assert_eq!(serde_json::from_str::<Machine>(&json).unwrap(), machine);
    }
}
