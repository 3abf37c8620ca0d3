//! What can be wrong with a machine on this host, looked at before QEMU is.

use super::LaunchError;
use crate::qemu::{Ovmf, QemuOptions};
use kit_spec::artifact::Firmware;
use kit_spec::machine::{BootSource, Machine, Net, Protocol, Publish};
use std::fs::File;
use std::io;
use std::net::{SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The same machine, whatever directory is the current one later.
pub(super) fn with_absolute_paths(machine: &Machine) -> Result<Machine, LaunchError> {
    let mut machine = machine.clone();
    for (what, path) in files_of(&mut machine) {
        *path = std::path::absolute(&*path).map_err(|source| LaunchError::File {
            what,
            path: path.clone(),
            source,
        })?;
    }
    Ok(machine)
}

/// Checks that every file can be opened as the machine will use it.
pub(super) fn files(machine: &Machine) -> Result<(), LaunchError> {
    let written = machine.disks.iter().filter(|disk| !disk.readonly).map(|disk| disk.path.as_path());
    let written: Vec<&Path> = written.collect();
    for (what, path) in files_of(&mut machine.clone()) {
        let mut options = File::options();
        options.read(true).write(written.contains(&path.as_path()));
        // A pipe is not waited for.
        let opened = options.custom_flags(libc::O_NONBLOCK).open(&*path);
        let kind = opened.and_then(|file| Ok(file.metadata()?.file_type()));
        let usable = match kind {
            Ok(kind) if kind.is_file() || kind.is_block_device() => Ok(()),
            Ok(kind) if kind.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file nor a block device")),
            Err(error) => Err(error),
        };
        usable.map_err(|source| LaunchError::File { what, path: path.clone(), source })?;
    }
    Ok(())
}

/// The firmware, where the machine needs one that QEMU does not have in itself.
pub(super) fn firmware(machine: &Machine, options: &QemuOptions) -> Result<Option<Ovmf>, LaunchError> {
    let BootSource::Image { firmware: Firmware::Uefi, .. } = machine.boot else { return Ok(None) };
    if let Some(ovmf) = &options.ovmf {
        return Ok(Some(ovmf.clone()));
    }
    let (code, vars) = (std::env::var_os("KIT_OVMF_CODE"), std::env::var_os("KIT_OVMF_VARS"));
    Ok(Some(Ovmf::find(code.as_deref(), vars.as_deref(), Path::exists)?))
}

/// Checks that every host port is free, by listening on all of them for a moment. Another process may still take one
/// before QEMU does; its error is then read from QEMU's last words.
pub(super) fn ports(machine: &Machine) -> Result<(), LaunchError> {
    let mut held: Vec<OwnedFd> = Vec::new();
    for publish in published(machine) {
        let address = SocketAddrV4::new(publish.address, publish.host);
        let bound = match publish.protocol {
            Protocol::Tcp => TcpListener::bind(address).map(OwnedFd::from),
            Protocol::Udp => UdpSocket::bind(address).map(OwnedFd::from),
        };
        match bound {
            Ok(socket) => held.push(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(LaunchError::PortInUse { publish: *publish });
            }
            Err(source) => return Err(LaunchError::Port { publish: *publish, source }),
        }
    }
    Ok(())
}

/// All port mappings of a machine.
pub(super) fn published(machine: &Machine) -> impl Iterator<Item = &Publish> {
    machine.nets.iter().flat_map(|Net::User { publish }| publish)
}

/// All files of a machine, and what each is to it.
fn files_of(machine: &mut Machine) -> Vec<(&'static str, &mut PathBuf)> {
    let mut files = Vec::new();
    match &mut machine.boot {
        BootSource::Kernel { kernel, initrd, root, .. } => {
            files.extend([("the kernel", kernel), ("the initrd", initrd)]);
            files.extend(root.as_mut().map(|root| ("the root", root)));
        }
        BootSource::Image { image, .. } => files.push(("the boot image", image)),
    }
    files.extend(machine.disks.iter_mut().map(|disk| ("the disk", &mut disk.path)));
    files
}
