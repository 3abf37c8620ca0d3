use super::super::layout::{Roots, volume};
use super::*;

fn paths(paths: &[kit_spec::tree::TreePath]) -> Vec<String> {
    paths.iter().map(ToString::to_string).collect()
}

#[test]
fn a_writable_container_is_an_overlay_over_its_image() {
    let place = Roots::new().place(Section::Onboot, 3, "dhcpcd", "sha256:1", false).unwrap();
    assert_eq!(place.bundle.to_string(), "/containers/onboot/003-dhcpcd");
    assert_eq!(place.config().to_string(), "/containers/onboot/003-dhcpcd/config.json");
    assert_eq!(place.runtime().to_string(), "/containers/onboot/003-dhcpcd/runtime.json");
    assert_eq!(place.unpack.unwrap().to_string(), "/containers/onboot/003-dhcpcd/lower");
    assert_eq!(
        paths(&place.dirs),
        ["/containers/onboot/003-dhcpcd/rootfs", "/containers/onboot/003-dhcpcd/tmp"]
    );
    assert_eq!(
        serde_json::to_value(&place.mounts).unwrap(),
        json!([
            {"destination": "/containers/onboot/003-dhcpcd/tmp", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/containers/onboot/003-dhcpcd/tmp", "options": ["remount", "private"]},
            {
                "destination": "/containers/onboot/003-dhcpcd/rootfs",
                "type": "overlay",
                "source": "overlay",
                "options": [
                    "lowerdir=/containers/onboot/003-dhcpcd/lower",
                    "upperdir=/containers/onboot/003-dhcpcd/tmp/upper",
                    "workdir=/containers/onboot/003-dhcpcd/tmp/work",
                ],
            },
        ])
    );
}

#[test]
fn a_read_only_container_is_its_image_bound_on_itself() {
    let place = Roots::new().place(Section::Services, 0, "web", "sha256:1", true).unwrap();
    assert_eq!(place.unpack.unwrap().to_string(), "/containers/services/web/rootfs");
    assert!(place.dirs.is_empty());
    assert_eq!(
        serde_json::to_value(&place.mounts).unwrap(),
        json!([{
            "destination": "/containers/services/web/rootfs",
            "source": "/containers/services/web/rootfs",
            "options": ["bind"],
        }])
    );
}

#[test]
fn an_image_that_is_used_again_is_not_unpacked_again() {
    let mut roots = Roots::new();
    roots.place(Section::Onboot, 0, "first", "sha256:1", false).unwrap();
    let bound = roots.place(Section::Services, 0, "bound", "sha256:1", true).unwrap();
    assert_eq!(bound.unpack, None);
    assert_eq!(paths(&bound.dirs), ["/containers/services/bound/rootfs"]);
    assert_eq!(bound.mounts[0].source, "/containers/onboot/000-first/lower");
    let over = roots.place(Section::Services, 1, "over", "sha256:1", false).unwrap();
    assert_eq!(over.unpack, None);
    assert_eq!(paths(&over.dirs), ["/containers/services/over/rootfs", "/containers/services/over/tmp"]);
    assert_eq!(over.mounts[2].options[0], "lowerdir=/containers/onboot/000-first/lower");
    let other = roots.place(Section::Services, 2, "other", "sha256:2", true).unwrap();
    assert_eq!(other.unpack.unwrap().to_string(), "/containers/services/other/rootfs");
}

#[test]
fn a_name_that_leads_out_is_refused() {
    assert!(Roots::new().place(Section::Services, 0, "../../etc", "sha256:1", true).is_err());
    assert!(volume("..").is_err());
}

#[test]
fn a_volume_has_the_directories_that_linuxkits_init_mounts_on() {
    let volume = volume("data").unwrap();
    assert_eq!(volume.lower.to_string(), "/containers/volumes/data/lower");
    assert_eq!(paths(&volume.dirs), ["/containers/volumes/data/merged", "/containers/volumes/data/tmp"]);
}
