//! The workload: ten images of the shape that LinuxKit's users build nodes from, as one OCI layout.
//!
//! ```text
//! Debian packages ──kitbuild build -f tar──▶ one tar ──split by container──▶ trees ──▶ layers (gzip) ──▶ OCI layout
//! ```
//!
//! Images of services have two layers, the first of which they share. Each is an image index with one manifest, the
//! form in which registries hold what was built for several platforms. What comes out depends on the packages that the
//! machine's Debian has today, and on nothing else.

use crate::layout::{Layer, LayerWriter, Layout, append};
use qemu_tests::Kitbuild;
use qemu_tests::kitbuild::run;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Changes when what is generated does.
const REVISION: u32 = 1;

/// A small Debian: the layer that images of services share.
const BASE: &str = "adduser,apt,base-files,bash,bsdutils,coreutils,dash,debianutils,diffutils,dpkg,findutils,\
    gpgv,grep,gzip,hostname,init-system-helpers,login,mawk,mount,ncurses-base,ncurses-bin,passwd,perl-base,procps,sed,\
    sysvinit-utils,tar,tzdata,util-linux";

/// Images over the base, and the packages of their second layer.
const OVER_BASE: [(&str, &str); 6] = [
    ("dhcpcd", "dhcpcd5,iproute2,e2fsprogs,kmod,perl,udev"),
    ("nginx", "nginx"),
    ("node", "nodejs"),
    ("postgres", "postgresql"),
    ("python", "python3,python3-dev,python3-pip,python3-lxml,python3-requests,python3-yaml"),
    ("redis", "redis-server,perl"),
];

/// `/init` of the workload: what a boot of it is waited for by.
pub const UP: &str = "WORKLOAD-IS-UP";

/// The images, on disk.
pub struct Workload {
    /// An OCI layout with all of them, each named `bench/NAME:1`.
    pub layout: PathBuf,
    /// The same as one archive.
    pub archive: PathBuf,
}

impl Workload {
    /// The workload below `dir`, made unless it is there.
    pub fn at(dir: &Path, kitbuild: &Kitbuild) -> Result<Workload, Box<dyn Error>> {
        let dir = dir.join(format!("workload-{REVISION}"));
        let workload = Workload { layout: dir.join("layout"), archive: dir.join("layout.tar") };
        if !workload.archive.exists() {
            println!("make the workload in {}", dir.display());
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir)?;
            workload.make(&dir, kitbuild)?;
        }
        Ok(workload)
    }

    fn make(&self, dir: &Path, kitbuild: &Kitbuild) -> Result<(), Box<dyn Error>> {
        let tar = packages(dir, kitbuild)?;
        let layout = Layout::create(&self.layout)?;
        let images = Split::new(&layout)?.read(&tar)?;
        for (name, layers) in &images {
            layout.image(name, layers)?;
        }
        layout.finish()?;
        fs::remove_file(tar)?;
        let partial = self.archive.with_extension("partial");
        let mut archive = tar::Builder::new(File::create(&partial)?);
        archive.append_dir_all(".", &self.layout)?;
        archive.into_inner()?.sync_all()?;
        Ok(fs::rename(partial, &self.archive)?)
    }

    /// A node file of all the images, with one file of its own.
    pub fn node(text: &str) -> String {
        let services: String = ["nginx", "redis", "postgres", "python", "node"]
            .iter()
            .map(|name| format!("  - {{name: {name}, image: \"bench/{name}:1\", command: [/bin/true]}}\n"))
            .collect();
        format!(
            "kernel:\n  image: bench/kernel:1\n  cmdline: console=ttyS0 panic=1\n\
             init: [\"bench/init:1\", \"bench/runtime:1\"]\n\
             onboot:\n  - {{name: sysctl, image: \"bench/sysctl:1\", command: [/bin/true]}}\n\
             \x20 - {{name: dhcpcd, image: \"bench/dhcpcd:1\", command: [/bin/true]}}\n\
             onshutdown:\n  - {{name: sysctl, image: \"bench/sysctl:1\", command: [/bin/true]}}\n\
             services:\n{services}\
             files:\n  - path: etc/motd\n    mode: \"0644\"\n    contents: \"{text}\\n\"\n"
        )
    }
}

/// Packages as files: one tar in which each set of packages is a container's root.
fn packages(dir: &Path, kitbuild: &Kitbuild) -> Result<PathBuf, Box<dyn Error>> {
    let mut text = String::from("kernel: {image: kit/kernel-full}\nservices:\n");
    let mut service = |name: &str, packages: &str| {
        text.push_str(&format!(
            "  - {{name: {name}, image: \"deb:{packages}\", readonly: true, command: [/bin/true]}}\n"
        ));
    };
    // In the order of their names, which is the tar's.
    service("base", BASE);
    service("busybox", "busybox-static");
    for (name, packages) in OVER_BASE {
        service(name, &format!("{BASE},{packages}"));
    }
    service("runtime", "containerd,runc");
    let node = dir.join("packages.yml");
    fs::write(&node, text)?;
    let mut command = kitbuild.command(["build", "--quiet", "--format", "tar", "--out"]);
    command.arg(dir).arg(&node);
    run(command)?;
    Ok(dir.join("packages.tar"))
}

/// An image's name and layers.
type Image = (String, Vec<Layer>);
/// A file as the base has it.
type Known = (u32, u64, [u8; 32]);

/// Takes the tar apart.
struct Split<'a> {
    layout: &'a Layout,
    base: HashMap<PathBuf, Known>,
    kernel: Vec<u8>,
    modules: tar::Builder<Vec<u8>>,
    open: Option<(String, LayerWriter<'a>)>,
    layers: HashMap<String, Layer>,
}

impl<'a> Split<'a> {
    fn new(layout: &'a Layout) -> Result<Split<'a>, Box<dyn Error>> {
        Ok(Split {
            layout,
            base: HashMap::new(),
            kernel: Vec::new(),
            modules: tar::Builder::new(Vec::new()),
            open: None,
            layers: HashMap::new(),
        })
    }

    fn read(mut self, tar: &Path) -> Result<Vec<Image>, Box<dyn Error>> {
        for entry in tar::Archive::new(File::open(tar)?).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.into_owned();
            if path == Path::new("boot/kernel") {
                entry.read_to_end(&mut self.kernel)?;
            } else if path.starts_with("lib/modules") || path.starts_with("usr/lib/modules") {
                let link = entry.link_name()?.map(|link| link.into_owned());
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                append(&mut self.modules, entry.header(), &path, link.as_deref(), &content)?;
            } else if let Some((name, path)) = container(&path) {
                self.entry(&name, &path, &mut entry)?;
            }
        }
        self.close()?;
        self.images()
    }

    fn entry(&mut self, name: &str, path: &Path, entry: &mut tar::Entry<File>) -> Result<(), Box<dyn Error>> {
        if self.open.as_ref().is_none_or(|(open, _)| open != name) {
            self.close()?;
            self.open = Some((name.to_owned(), self.layout.layer()?));
        }
        let Some((_, layer)) = &mut self.open else { return Ok(()) };
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        let header = entry.header().clone();
        let link = match (header.entry_type(), entry.link_name()?) {
            (tar::EntryType::Link, Some(link)) => container(&link).map(|(_, path)| path),
            (_, link) => link.map(|link| link.into_owned()),
        };
        let target = link.as_deref().map(|link| link.as_os_str().as_encoded_bytes()).unwrap_or_default();
        let digest = Sha256::new().chain_update(&content).chain_update(target).finalize().into();
        let known = (header.mode()?, content.len() as u64, digest);
        if name == "base" {
            self.base.insert(path.to_owned(), known);
        } else if OVER_BASE.iter().any(|(over, _)| *over == name) && self.base.get(path) == Some(&known) {
            return Ok(());
        }
        Ok(append(layer.tar(), &header, path, link.as_deref(), &content)?)
    }

    fn close(&mut self) -> Result<(), Box<dyn Error>> {
        if let Some((name, layer)) = self.open.take() {
            self.layers.insert(name, layer.finish()?);
        }
        Ok(())
    }

    /// What was taken apart, as images.
    fn images(self) -> Result<Vec<Image>, Box<dyn Error>> {
        let layer = |name: &str| self.layers.get(name).cloned().ok_or(format!("no files of {name}"));
        let mut images: Vec<Image> = Vec::new();
        let mut kernel = self.layout.layer()?;
        kernel.file("kernel", 0o644, &self.kernel)?;
        kernel.file("kernel.tar", 0o644, &self.modules.into_inner()?)?;
        images.push(("kernel".into(), vec![kernel.finish()?]));
        let mut init = self.layout.layer()?;
        for applet in ["sh", "mount", "poweroff"] {
            init.link(&format!("bin/{applet}"), "busybox")?;
        }
        let script = format!(
            "#!/bin/sh\nmount -t proc proc /proc\necho {UP}\necho o >/proc/sysrq-trigger\nsleep 60\n"
        );
        init.file("init", 0o755, script.as_bytes())?;
        images.push(("init".into(), vec![layer("busybox")?, init.finish()?]));
        images.push(("runtime".into(), vec![layer("runtime")?]));
        images.push(("sysctl".into(), vec![layer("busybox")?]));
        for (name, _) in OVER_BASE {
            images.push((name.into(), vec![layer("base")?, layer(name)?]));
        }
        Ok(images)
    }
}

/// A path below the root of a container: the container's name, and the path inside.
fn container(path: &Path) -> Option<(String, PathBuf)> {
    let mut parts = path.strip_prefix("containers/services").ok()?.components();
    let name = parts.next()?.as_os_str().to_str()?.to_owned();
    let root = parts.next()?.as_os_str();
    let inside = parts.as_path();
    ((root == "rootfs" || root == "lower") && inside != Path::new("")).then(|| (name, inside.to_owned()))
}
