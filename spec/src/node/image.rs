//! What a node file may write where an image is named.
//!
//! | written | meaning |
//! |---|---|
//! | `nginx`, `ghcr.io/a/b:1`, `redis@sha256:..` | an image of a registry, by the rules of Docker's names |
//! | `kit/NAME` | the recipe NAME |
//! | `deb:nginx,curl=7.88.1-10` | an image made of Debian packages |
//! | `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:TAG]` | a file of the building machine |
//! | `@pkg:PATH` | a LinuxKit package directory, whose tag its own tool works out |
//!
//! The text that [`Display`](fmt::Display) gives parses to the same value; a registry's name is written in full
//! (`docker.io/library/nginx:latest`).

use std::fmt;
use std::str::FromStr;

/// An image, as a node file names it. Which bytes it stands for is asked later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ImageRef {
    /// An image of a registry.
    Registry(RegistryRef),
    /// `kit/NAME`: a recipe.
    Recipe(RecipeName),
    /// `deb:..`: Debian packages.
    Debian(DebianPackages),
    /// An image in a file or directory.
    Local(LocalImage),
    /// `@pkg:PATH`: a LinuxKit package directory.
    Template(PackagePath),
}

/// A name by the rules of Docker: registry, repository, tag, digest. Always in full.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryRef {
    domain: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// The name of a recipe: lower-case letters, digits, `.`, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecipeName(String);

/// One or more Debian packages, in the order written, none twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DebianPackages(Vec<DebianPackage>);

/// A Debian package (Debian policy 5.6.1, 5.6.12).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DebianPackage {
    name: String,
    version: Option<String>,
}

/// An image in a file or directory of the building machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalImage {
    format: LocalFormat,
    path: String,
    tag: Option<String>,
}

/// How a local file holds an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LocalFormat {
    /// A directory that is an OCI image layout.
    OciLayout,
    /// A tar of an OCI image layout.
    OciArchive,
    /// A tar as `docker save` writes it.
    DockerArchive,
}

/// The directory of a LinuxKit package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackagePath(String);

/// Why a text does not name an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageRefError {
    /// Nothing was written.
    #[error("the image's name is empty")]
    Empty,
    /// The name is longer than 255 bytes.
    #[error("the image's name has {len} bytes, and 255 is the limit")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The part before the first `/` is not a registry's address.
    #[error("`{domain}` is not the address of a registry")]
    Domain {
        /// The part.
        domain: String,
    },
    /// A part of the repository has a character that is not allowed there.
    #[error(
        "`{part}` is not a part of an image's name: lower-case letters and digits, with `.`, `_`, `__` or `-` between"
    )]
    Repository {
        /// The part between two `/`.
        part: String,
    },
    /// The text after `:` is not a tag.
    #[error(
        "`{tag}` is not a tag: letters, digits, `_`, `.` and `-`, at most 128, not beginning with `.` or `-`"
    )]
    Tag {
        /// The text.
        tag: String,
    },
    /// The text after `@` is not a digest.
    #[error("`{digest}` is not a digest such as `sha256:` and 64 hexadecimal digits")]
    Digest {
        /// The text.
        digest: String,
    },
    /// The text after `kit/` is not a recipe's name.
    #[error("`{name}` is not the name of a recipe: lower-case letters, digits, `.`, `_` and `-`")]
    Recipe {
        /// The text.
        name: String,
    },
    /// A package's name is not one of Debian's.
    #[error(
        "`{name}` is not the name of a Debian package: at least two of lower-case letters, digits, `+`, `-` and `.`"
    )]
    Package {
        /// The text.
        name: String,
    },
    /// A package's name carries an architecture.
    #[error("the package `{package}` names an architecture")]
    PackageArch {
        /// The text, with the `:arch`.
        package: String,
    },
    /// The text after `=` is not a version.
    #[error("`{version}` is not the version of a Debian package")]
    PackageVersion {
        /// The text.
        version: String,
    },
    /// A package is named twice.
    #[error("the package `{name}` is named twice")]
    PackageTwice {
        /// Its name.
        name: String,
    },
    /// A scheme is not followed by a path.
    #[error("`{scheme}` is not followed by a path")]
    Path {
        /// The scheme, with its colon.
        scheme: &'static str,
    },
}

const DEFAULT_DOMAIN: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
const MAX_NAME: usize = 255;
const PACKAGE_SCHEME: &str = "@pkg:";
const DEBIAN_SCHEME: &str = "deb:";
const RECIPE_PREFIX: &str = "kit/";

impl RegistryRef {
    /// The registry: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository in the registry: `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` if neither a tag nor a digest was written, none if only a digest was.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was written: `sha256:..`.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// The same repository, pinned to `digest`.
    ///
    /// # Errors
    /// If `digest` is not one.
    pub fn with_digest(&self, digest: &str) -> Result<RegistryRef, ImageRefError> {
        check_digest(digest)?;
        Ok(RegistryRef { digest: Some(digest.to_owned()), ..self.clone() })
    }
}

impl RecipeName {
    /// The name, without `kit/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl DebianPackages {
    /// The packages, at least one.
    pub fn packages(&self) -> &[DebianPackage] {
        &self.0
    }
}

impl DebianPackage {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version, if one was written.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

impl LocalImage {
    /// How the image is held.
    pub fn format(&self) -> LocalFormat {
        self.format
    }

    /// The path, as written.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Which image of the file, if one was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }
}

impl LocalFormat {
    const ALL: [LocalFormat; 3] =
        [LocalFormat::OciLayout, LocalFormat::OciArchive, LocalFormat::DockerArchive];

    /// What stands before the path, with its colon.
    pub fn scheme(self) -> &'static str {
        match self {
            LocalFormat::OciLayout => "oci:",
            LocalFormat::OciArchive => "oci-archive:",
            LocalFormat::DockerArchive => "docker-archive:",
        }
    }
}

impl PackagePath {
    /// The path, as written.
    pub fn path(&self) -> &str {
        &self.0
    }
}

impl FromStr for ImageRef {
    type Err = ImageRefError;

    fn from_str(text: &str) -> Result<ImageRef, ImageRefError> {
        if text.is_empty() {
            return Err(ImageRefError::Empty);
        }
        if let Some(path) = text.strip_prefix(PACKAGE_SCHEME) {
            let path = not_empty(path, PACKAGE_SCHEME)?;
            return Ok(ImageRef::Template(PackagePath(path.to_owned())));
        }
        if let Some(packages) = text.strip_prefix(DEBIAN_SCHEME) {
            return packages.parse().map(ImageRef::Debian);
        }
        for format in LocalFormat::ALL {
            if let Some(path) = text.strip_prefix(format.scheme()) {
                return local(format, path).map(ImageRef::Local);
            }
        }
        if let Some(name) = text.strip_prefix(RECIPE_PREFIX) {
            return recipe(name).map(ImageRef::Recipe);
        }
        text.parse().map(ImageRef::Registry)
    }
}

impl FromStr for RegistryRef {
    type Err = ImageRefError;

    fn from_str(text: &str) -> Result<RegistryRef, ImageRefError> {
        if text.is_empty() {
            return Err(ImageRefError::Empty);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon after the last slash begins the tag; one before it belongs to the registry's port.
        let last = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[last..].rfind(':') {
            Some(colon) => (&rest[..last + colon], Some(&rest[last + colon + 1..])),
            None => (rest, None),
        };
        let (domain, repository) = split_domain(name);
        check_domain(&domain)?;
        for part in repository.split('/') {
            check_part(part)?;
        }
        if domain.len() + 1 + repository.len() > MAX_NAME {
            return Err(ImageRefError::TooLong { len: domain.len() + 1 + repository.len() });
        }
        tag.map(check_tag).transpose()?;
        digest.map(check_digest).transpose()?;
        let tag = tag.or_else(|| digest.is_none().then_some(DEFAULT_TAG));
        Ok(RegistryRef { domain, repository, tag: tag.map(str::to_owned), digest: digest.map(str::to_owned) })
    }
}

impl FromStr for DebianPackages {
    type Err = ImageRefError;

    /// Takes the list without `deb:`; blanks around a name do not count.
    fn from_str(text: &str) -> Result<DebianPackages, ImageRefError> {
        let mut packages: Vec<DebianPackage> = Vec::new();
        for item in text.split(',') {
            let package: DebianPackage = item.trim().parse()?;
            if packages.iter().any(|other| other.name == package.name) {
                return Err(ImageRefError::PackageTwice { name: package.name });
            }
            packages.push(package);
        }
        Ok(DebianPackages(packages))
    }
}

impl FromStr for DebianPackage {
    type Err = ImageRefError;

    /// Takes `NAME` or `NAME=VERSION`.
    fn from_str(text: &str) -> Result<DebianPackage, ImageRefError> {
        let (name, version) = match text.split_once('=') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        if name.contains(':') {
            return Err(ImageRefError::PackageArch { package: name.to_owned() });
        }
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
        let begins = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if name.len() < 2 || !begins || !name.bytes().all(known) {
            return Err(ImageRefError::Package { name: name.to_owned() });
        }
        if let Some(version) = version {
            let known = |b: u8| b.is_ascii_alphanumeric() || b".+-~:".contains(&b);
            if !version.bytes().next().is_some_and(|b| b.is_ascii_digit()) || !version.bytes().all(known) {
                return Err(ImageRefError::PackageVersion { version: version.to_owned() });
            }
        }
        Ok(DebianPackage { name: name.to_owned(), version: version.map(str::to_owned) })
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageRef::Registry(image) => image.fmt(f),
            ImageRef::Recipe(name) => write!(f, "{RECIPE_PREFIX}{}", name.0),
            ImageRef::Debian(packages) => write!(f, "{DEBIAN_SCHEME}{packages}"),
            ImageRef::Local(image) => image.fmt(f),
            ImageRef::Template(path) => write!(f, "{PACKAGE_SCHEME}{}", path.0),
        }
    }
}

impl fmt::Display for RegistryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Display for DebianPackages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, package) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{package}")?;
        }
        Ok(())
    }
}

impl fmt::Display for DebianPackage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.version {
            Some(version) => write!(f, "={version}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for LocalImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.format.scheme(), self.path)?;
        match &self.tag {
            Some(tag) => write!(f, ":{tag}"),
            None => Ok(()),
        }
    }
}

text_serde!(ImageRef, "the name of an image");
text_serde!(RegistryRef, "the name of an image in a registry");

/// Docker's rule: the part before the first `/` is a registry if it could not be a part of a repository.
fn split_domain(name: &str) -> (String, String) {
    let (domain, repository) = match name.split_once('/') {
        Some((first, rest)) if is_domain(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
    if domain == DEFAULT_DOMAIN && !repository.contains('/') {
        return (domain.to_owned(), format!("library/{repository}"));
    }
    (domain.to_owned(), repository.to_owned())
}

fn is_domain(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost" || part.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_domain(domain: &str) -> Result<(), ImageRefError> {
    let bad = || ImageRefError::Domain { domain: domain.to_owned() };
    let host = match domain.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or_else(bad)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
            return match port.strip_prefix(':') {
                None if port.is_empty() => Ok(()),
                Some(port) if is_port(port) => Ok(()),
                _ => Err(bad()),
            };
        }
        None => match domain.split_once(':') {
            Some((host, port)) if is_port(port) => host,
            Some(_) => return Err(bad()),
            None => domain,
        },
    };
    let label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    if host.split('.').all(label) { Ok(()) } else { Err(bad()) }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port != 0)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn check_part(part: &str) -> Result<(), ImageRefError> {
    let bad = || ImageRefError::Repository { part: part.to_owned() };
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut separator = String::new();
    for b in part.bytes() {
        if word(b) {
            let dashes = separator.bytes().all(|b| b == b'-');
            if !dashes && ![".", "_", "__"].contains(&separator.as_str()) {
                return Err(bad());
            }
            separator.clear();
        } else {
            separator.push(char::from(b));
        }
    }
    let begins = part.bytes().next().is_some_and(word);
    if begins && separator.is_empty() { Ok(()) } else { Err(bad()) }
}

fn check_tag(tag: &str) -> Result<(), ImageRefError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let begins = tag.bytes().next().is_some_and(word);
    if begins && tag.len() <= 128 && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-') {
        return Ok(());
    }
    Err(ImageRefError::Tag { tag: tag.to_owned() })
}

fn check_digest(digest: &str) -> Result<(), ImageRefError> {
    let hex = |text: &str, len: usize| {
        text.len() == len && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let good = match digest.split_once(':') {
        Some(("sha256", encoded)) => hex(encoded, 64),
        Some(("sha512", encoded)) => hex(encoded, 128),
        _ => false,
    };
    if good { Ok(()) } else { Err(ImageRefError::Digest { digest: digest.to_owned() }) }
}

fn recipe(name: &str) -> Result<RecipeName, ImageRefError> {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let begins = name.bytes().next().is_some_and(word);
    if begins && name.len() <= 128 && name.bytes().all(|b| word(b) || b"._-".contains(&b)) {
        return Ok(RecipeName(name.to_owned()));
    }
    Err(ImageRefError::Recipe { name: name.to_owned() })
}

/// A colon with a tag behind it, and no `/` in that, ends the path.
fn local(format: LocalFormat, text: &str) -> Result<LocalImage, ImageRefError> {
    let (path, tag) = match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => {
            check_tag(tag)?;
            (path, Some(tag.to_owned()))
        }
        _ => (text, None),
    };
    let path = not_empty(path, format.scheme())?.to_owned();
    Ok(LocalImage { format, path, tag })
}

fn not_empty<'a>(path: &'a str, scheme: &'static str) -> Result<&'a str, ImageRefError> {
    if path.is_empty() || path.contains('\0') { Err(ImageRefError::Path { scheme }) } else { Ok(path) }
}

#[cfg(test)]
mod tests;
