//! What the machine says and takes besides netlink: sysfs, its name, random bits.

use std::fs;
use std::path::Path;

use super::log::say;
use crate::clock::Time;
use crate::domain;
use crate::select::Device;

/// What sysfs says of an interface.
pub(super) fn device(name: &str) -> Device {
    let path = Path::new("/sys/class/net").join(name).join("device");
    let driver = fs::read_link(path.join("driver")).ok();
    Device {
        physical: path.exists(),
        driver: driver.and_then(|to| Some(to.file_name()?.to_str()?.to_owned())),
    }
}

/// This host's name, if it is one.
fn own_name() -> Option<String> {
    rustix::system::uname().nodename().to_str().ok().and_then(domain::hostname)
}

/// The name to tell a DHCP server: none while the host would rather hear one from it.
pub(super) fn name_to_tell(wants_hostname: bool) -> Option<String> {
    let unnamed = if wants_hostname { domain::is_default } else { domain::is_placeholder };
    own_name().filter(|name| !unnamed(name))
}

/// Names this host, unless somebody has named it already.
pub(super) fn set_hostname(interface: &str, wanted: &str) {
    if own_name().is_some_and(|name| !domain::is_default(&name)) {
        return;
    }
    match rustix::system::sethostname(wanted.as_bytes()) {
        Ok(()) => say(interface, format_args!("names this host {wanted}")),
        Err(e) => say(interface, format_args!("name this host {wanted}: {e}")),
    }
}

/// Random bits. Early in a boot the kernel may not vouch for them yet: for transaction numbers and jitter they do
/// even so, and waiting could take longer than the rest of the boot.
pub(super) fn random() -> u32 {
    use rustix::rand::{GetRandomFlags, getrandom};
    let mut bytes = [0; 4];
    if getrandom(&mut bytes, GetRandomFlags::NONBLOCK).is_err()
        && getrandom(&mut bytes, GetRandomFlags::INSECURE).is_err()
    {
        // Kernels before 5.6 do not know INSECURE: the clock is better than nothing.
        return Time::now().as_millis() as u32;
    }
    u32::from_ne_bytes(bytes)
}
