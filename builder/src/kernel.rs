//! Kernel modules of a root: indexes that packages lack, selections that recipes make, and what the initrd needs.

pub mod depmod;
pub mod modinfo;

use crate::contents::{Blob, Contents};
use depmod::{MissingModule, Modules};
use kit_spec::tree::{Kind, Meta, Tree, TreeError, TreePath};
use modinfo::ModInfoError;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// The largest module that is read; the kernel's own limit is of the same order.
const MAX_MODULE: u64 = 64 << 20;
const MAX_INDEX: u64 = 16 << 20;

/// Mounts the root: loaded by name before anything else, where the kernel has them as modules.
pub const ROOT_MODULES: [&str; 2] = ["loop", "squashfs"];

/// What a root on a disk or CD may be behind: loaded by the devices that are found.
pub const STORAGE_MODULES: [&str; 30] = [
    "ahci",
    "ata_generic",
    "ata_piix",
    "ehci_pci",
    "hv_storvsc",
    "hv_vmbus",
    "isofs",
    "megaraid_sas",
    "mmc_block",
    "mpt3sas",
    "mptsas",
    "mptspi",
    "nvme",
    "ohci_pci",
    "sd_mod",
    "sdhci_acpi",
    "sdhci_pci",
    "sr_mod",
    "uas",
    "uhci_hcd",
    "usb_storage",
    "virtio_blk",
    "virtio_mmio",
    "virtio_pci",
    "virtio_scsi",
    "vmd",
    "vmw_pvscsi",
    "xen_blkfront",
    "xhci_hcd",
    "xhci_pci",
];

/// Why a kernel's modules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A module cannot be read.
    #[error("read kernel module {path}")]
    Read {
        /// Its path in the image.
        path: TreePath,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file called `.ko` is no module.
    #[error("kernel module {path}")]
    Module {
        /// Its path in the image.
        path: TreePath,
        /// Why.
        #[source]
        source: ModInfoError,
    },
    /// A module that is needed is not there.
    #[error("kernel {release}")]
    Missing {
        /// The kernel's release.
        release: String,
        /// Which one.
        #[source]
        source: MissingModule,
    },
    /// The tree does not take an index.
    #[error("add an index of kernel modules")]
    Tree(#[from] TreeError),
}

/// The modules of one kernel release in a root.
pub struct Release<'a> {
    /// `uname -r` of the kernel they are for.
    pub name: String,
    dir: TreePath,
    tree: &'a Tree<Blob>,
    contents: &'a Contents,
    /// Module name -> path below `dir`.
    files: BTreeMap<String, String>,
    builtin: BTreeSet<String>,
}

/// One module to load early.
#[derive(Clone, Debug)]
pub struct EarlyModule {
    /// Its path in the root, from `lib/modules` on.
    pub path: String,
    /// Bytes.
    pub len: u64,
    /// Its contents.
    pub blob: Blob,
}

impl<'a> Release<'a> {
    /// The releases in a root's `/lib/modules`, in order.
    ///
    /// # Errors
    /// When the list of built-in modules cannot be read.
    pub fn all(tree: &'a Tree<Blob>, contents: &'a Contents) -> Result<Vec<Release<'a>>, KernelError> {
        let Some(modules) = "lib/modules".parse().ok().and_then(|path: TreePath| tree.real_path(&path))
        else {
            return Ok(vec![]);
        };
        let Some(dir) = tree.get(&modules) else { return Ok(vec![]) };
        let names = dir.children().filter(|(_, id)| tree.inode(*id).is_dir());
        names
            .map(|(name, _)| Release::new(&modules, &String::from_utf8_lossy(name), tree, contents))
            .collect()
    }

    fn new(
        modules: &TreePath,
        name: &str,
        tree: &'a Tree<Blob>,
        contents: &'a Contents,
    ) -> Result<Self, KernelError> {
        let dir = modules.join(&name.parse().unwrap_or_else(|_| TreePath::root()));
        let mut files = BTreeMap::new();
        for (path, _, inode) in tree.walk() {
            if !path.starts_with(&dir) || !matches!(inode.kind(), Kind::File { .. }) {
                continue;
            }
            let below = String::from_utf8_lossy(&path.as_bytes()[dir.as_bytes().len()..]).into_owned();
            let below = below.trim_start_matches('/').to_owned();
            if let Some(module) = modinfo::name_of(&below) {
                files.insert(module, below);
            }
        }
        let list = dir.join(&"modules.builtin".parse().unwrap_or_else(|_| TreePath::root()));
        let builtin = match tree.get(&list).map(|inode| inode.kind()) {
            Some(Kind::File { content, .. }) => {
                let bytes = contents
                    .read(content, MAX_INDEX)
                    .map_err(|source| KernelError::Read { path: list.clone(), source })?;
                String::from_utf8_lossy(&bytes).lines().filter_map(modinfo::name_of).collect()
            }
            _ => BTreeSet::new(),
        };
        Ok(Release { name: name.to_owned(), dir, tree, contents, files, builtin })
    }

    /// Every `.ko` with what it says of itself, or only those of `wanted` and what they need.
    fn read(&self, wanted: Option<&[&str]>) -> Result<Modules, KernelError> {
        let mut modules = Modules::default();
        let mut queue: Vec<String> = match wanted {
            Some(names) => names.iter().map(|name| name.to_string()).collect(),
            None => self.files.keys().cloned().collect(),
        };
        while let Some(name) = queue.pop() {
            let Some(below) = self.files.get(&name) else { continue };
            if modules.contains(&name) {
                continue;
            }
            let module = self.module(below);
            let path = self.path(below);
            let Some(EarlyModule { blob, .. }) = module else { continue };
            let bytes = self
                .contents
                .read(&blob, MAX_MODULE)
                .and_then(|bytes| uncompressed(below, bytes))
                .map_err(|source| KernelError::Read { path: path.clone(), source })?;
            let info = modinfo::parse(&bytes).map_err(|source| KernelError::Module { path, source })?;
            queue.extend(info.depends.iter().cloned());
            queue.extend(info.softdeps.iter().flat_map(|line| modinfo::softdep_pre(line)));
            modules.insert(name, below.clone(), info);
        }
        Ok(modules)
    }

    /// The modules to load for `wanted` in order, and the text of the indexes over just these. Names that are neither
    /// modules nor built in are passed over: the list serves many kernels.
    ///
    /// # Errors
    /// When a module cannot be read, or needs one that is not there.
    pub fn early(&self, wanted: &[&str]) -> Result<(Vec<EarlyModule>, Modules), KernelError> {
        let there: Vec<&str> = wanted.iter().copied().filter(|name| self.files.contains_key(*name)).collect();
        let modules = self.read(Some(&there))?;
        let order = modules.load_order(&there, &self.builtin).map_err(|source| self.missing(source))?;
        let early = order.into_iter().filter_map(|name| self.module(self.files.get(name)?)).collect();
        Ok((early, modules))
    }

    /// Text of an index file beside the modules, over `modules` only.
    ///
    /// # Errors
    /// When a module needs one that is not there.
    pub fn index_files(&self, modules: &Modules) -> Result<[(&'static str, String); 3], KernelError> {
        let dep = modules.dep(&self.builtin).map_err(|source| self.missing(source))?;
        Ok([("modules.dep", dep), ("modules.alias", modules.alias()), ("modules.softdep", modules.softdep())])
    }

    /// True if somebody made the indexes already.
    fn is_indexed(&self) -> bool {
        self.tree.get(&self.path("modules.dep")).is_some()
    }

    fn module(&self, below: &str) -> Option<EarlyModule> {
        match self.tree.get(&self.path(below)).map(|inode| inode.kind()) {
            Some(Kind::File { len, content }) => Some(EarlyModule {
                path: format!("lib/modules/{}/{below}", self.name),
                len: *len,
                blob: content.clone(),
            }),
            _ => None,
        }
    }

    fn path(&self, below: &str) -> TreePath {
        self.dir.join(&below.parse().unwrap_or_else(|_| TreePath::root()))
    }

    fn missing(&self, source: MissingModule) -> KernelError {
        KernelError::Missing { release: self.name.clone(), source }
    }
}

/// Adds `modules.dep`, `modules.alias` and `modules.softdep` to each release of a root that lacks them.
///
/// # Errors
/// See [`KernelError`].
pub fn index(tree: &mut Tree<Blob>, contents: &Contents, epoch: i64) -> Result<(), KernelError> {
    let mut made: Vec<(TreePath, String)> = Vec::new();
    for release in Release::all(tree, contents)? {
        if release.files.is_empty() || release.is_indexed() {
            continue;
        }
        let modules = release.read(None)?;
        for (name, text) in release.index_files(&modules)? {
            made.push((release.path(name), text));
        }
    }
    for (path, text) in made {
        let kind = Kind::File { len: text.len() as u64, content: Blob::Bytes(text.into_bytes().into()) };
        tree.put(&path, Meta::root_owned(0o644, epoch), kind)?;
    }
    Ok(())
}

/// Takes away all kernel modules but `wanted` and what they need.
///
/// # Errors
/// When one of `wanted` is neither a module nor built into the kernel.
pub fn select(tree: &mut Tree<Blob>, contents: &Contents, wanted: &[String]) -> Result<(), KernelError> {
    let names: Vec<String> = wanted.iter().map(|name| modinfo::normal(name)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut gone = Vec::new();
    for release in Release::all(tree, contents)? {
        if release.files.is_empty() {
            continue;
        }
        let modules = release.read(Some(&names))?;
        modules.load_order(&names, &release.builtin).map_err(|source| release.missing(source))?;
        let unwanted = release.files.iter().filter(|(name, _)| !modules.contains(name));
        gone.extend(unwanted.map(|(_, below)| release.path(below)));
    }
    for path in gone {
        tree.remove(&path);
        drop_empty(tree, path.parent());
    }
    Ok(())
}

/// Takes away a directory that is empty, and its parents that are so then.
pub fn drop_empty(tree: &mut Tree<Blob>, mut dir: TreePath) {
    while !dir.is_root() && tree.get(&dir).is_some_and(|inode| inode.is_dir() && inode.children().len() == 0)
    {
        tree.remove(&dir);
        dir = dir.parent();
    }
}

/// A module's ELF file, whatever its package compressed it with.
fn uncompressed(path: &str, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut elf = Vec::new();
    if path.ends_with(".zst") {
        zstd::Decoder::new(bytes.as_slice())?.take(MAX_MODULE).read_to_end(&mut elf)?;
    } else if path.ends_with(".xz") {
        lzma_rust2::XzReader::new(bytes.as_slice(), true).take(MAX_MODULE).read_to_end(&mut elf)?;
    } else if path.ends_with(".gz") {
        flate2::read::GzDecoder::new(bytes.as_slice()).take(MAX_MODULE).read_to_end(&mut elf)?;
    } else {
        return Ok(bytes);
    }
    Ok(elf)
}
