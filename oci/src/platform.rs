//! Platforms, and which manifest of an index serves one. Pure.
//!
//! Names are Go's (`linux/amd64`, `linux/arm/v7`), as the OCI image-spec has them (image-index.md, "platform"). A
//! machine of a later variant runs images of an earlier one, so a choice is ranked: the same variant, then ever earlier
//! ones. An image without a variant is of the architecture's first common one (`arm` v7, `arm64` v8, `amd64` v1).

use std::fmt;
use std::str::FromStr;

use oci_spec::image::{Descriptor, ImageConfiguration};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An operating system, an architecture and maybe its variant, in normal form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// A text that is no platform.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{text}` is no platform (want os/architecture[/variant], such as linux/amd64 or linux/arm/v7)")]
pub struct PlatformError {
    /// What was read.
    pub text: String,
}

/// No manifest of an index serves the platform.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("no image for {wanted} in the index (it has {})", list(available))]
pub struct NoPlatform {
    /// What was wanted.
    pub wanted: Platform,
    /// What there is, sorted.
    pub available: Vec<String>,
}

fn list(available: &[String]) -> String {
    if available.is_empty() { "none".to_owned() } else { available.join(", ") }
}

impl Platform {
    /// `linux/amd64`.
    pub fn linux_amd64() -> Platform {
        Platform::normal("linux", "amd64", None)
    }

    /// The operating system, such as `linux`.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// The architecture in Go's names, such as `arm64`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The variant where it is not the common one, such as `v6` of `arm`.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// The platform that an image's own configuration names, or none if it names none (as images made by hand do).
    pub fn of_config(config: &ImageConfiguration) -> Option<Platform> {
        let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
        if os.is_empty() || architecture.is_empty() {
            return None;
        }
        Some(Platform::normal(&os, &architecture, config.variant().as_deref()))
    }

    /// Whether an image made for `image` runs here: 0 is the best fit, `None` is no.
    pub fn rank(&self, image: &Platform) -> Option<usize> {
        if self.os != image.os || self.architecture != image.architecture {
            return None;
        }
        let numbered = |platform: &Platform| match platform.variant() {
            None => Some(common_variant(platform.architecture())),
            Some(variant) => variant.strip_prefix('v').and_then(|number| number.parse::<usize>().ok()),
        };
        match (numbered(self), numbered(image)) {
            (Some(ours), Some(theirs)) => ours.checked_sub(theirs),
            _ => (self.variant == image.variant).then_some(0),
        }
    }

    fn normal(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        let os = os.to_ascii_lowercase();
        let architecture = architecture.to_ascii_lowercase();
        let variant = variant.filter(|variant| !variant.is_empty()).map(str::to_ascii_lowercase);
        let (architecture, variant) = match (architecture.as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64", _) => ("amd64".to_owned(), variant),
            ("i386" | "i686", _) => ("386".to_owned(), variant),
            ("aarch64", _) => ("arm64".to_owned(), variant),
            ("armhf", None) => ("arm".to_owned(), Some("v7".to_owned())),
            ("armel", None) => ("arm".to_owned(), Some("v6".to_owned())),
            _ => (architecture, variant),
        };
        let variant = variant.map(|variant| match variant.parse::<u8>() {
            Ok(number) => format!("v{number}"),
            Err(_) => variant,
        });
        let common = format!("v{}", common_variant(&architecture));
        Platform { os, architecture, variant: variant.filter(|variant| *variant != common) }
    }
}

/// The variant that an image of the architecture has if it does not say.
fn common_variant(architecture: &str) -> usize {
    match architecture {
        "arm" => 7,
        "arm64" => 8,
        _ => 1,
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// `os/architecture[/variant]`, or an architecture alone, which is Linux's.
    fn from_str(text: &str) -> Result<Platform, PlatformError> {
        let refuse = || PlatformError { text: text.to_owned() };
        let plain = |part: &&str| {
            !part.is_empty()
                && part.len() <= 32
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(plain) {
            return Err(refuse());
        }
        match parts[..] {
            [architecture] => Ok(Platform::normal("linux", architecture, None)),
            [os, architecture] => Ok(Platform::normal(os, architecture, None)),
            [os, architecture, variant] => Ok(Platform::normal(os, architecture, Some(variant))),
            _ => Err(refuse()),
        }
    }
}

impl TryFrom<String> for Platform {
    type Error = PlatformError;

    fn try_from(text: String) -> Result<Self, PlatformError> {
        text.parse()
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> String {
        platform.to_string()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl From<&oci_spec::image::Platform> for Platform {
    fn from(platform: &oci_spec::image::Platform) -> Platform {
        let (os, architecture) = (platform.os().to_string(), platform.architecture().to_string());
        Platform::normal(&os, &architecture, platform.variant().as_deref())
    }
}

/// Chooses among the manifests of an index: the best fit, the first of equals (image-index.md: the order is the
/// publisher's preference). Attestations and other manifests that are no images are passed over. A sole manifest
/// without a platform is taken: its configuration will tell.
///
/// # Errors
/// [`NoPlatform`], with the platforms that there are.
pub fn select<'a>(manifests: &'a [Descriptor], wanted: &Platform) -> Result<&'a Descriptor, NoPlatform> {
    let candidates = || manifests.iter().filter(|manifest| !is_attestation(manifest));
    let best = candidates()
        .filter_map(|manifest| {
            let platform = manifest.platform().as_ref().map(Platform::from)?;
            Some((wanted.rank(&platform)?, manifest))
        })
        .min_by_key(|(rank, _)| *rank);
    if let Some((_, manifest)) = best {
        return Ok(manifest);
    }
    let mut unnamed = candidates().filter(|manifest| manifest.platform().is_none());
    if let (Some(only), None) = (unnamed.next(), unnamed.next()) {
        return Ok(only);
    }
    let mut available: Vec<String> = candidates()
        .map(|manifest| match manifest.platform() {
            Some(platform) => Platform::from(platform).to_string(),
            None => "one without a platform".to_owned(),
        })
        .collect();
    available.sort();
    available.dedup();
    Err(NoPlatform { wanted: wanted.clone(), available })
}

/// Whether an entry of an index describes another image instead of being one, as BuildKit's attestations do: platform
/// `unknown/unknown` or the annotation `vnd.docker.reference.type`.
pub fn is_attestation(manifest: &Descriptor) -> bool {
    let annotated = manifest
        .annotations()
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key("vnd.docker.reference.type"));
    let unknown = manifest.platform().as_ref().is_some_and(|platform| {
        platform.os().to_string() == "unknown" && platform.architecture().to_string() == "unknown"
    });
    annotated || unknown
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::image::{DescriptorBuilder, MediaType};
    use proptest::prelude::*;

    fn entry(number: u64, platform: Option<&str>) -> Descriptor {
        let mut entry = DescriptorBuilder::default()
            .media_type(MediaType::ImageManifest)
            .digest(crate::digest::of(&number.to_le_bytes()))
            .size(number)
            .build()
            .unwrap();
        if let Some(text) = platform {
            let mut parts = text.split('/');
            let mut json = serde_json::json!({"os": parts.next(), "architecture": parts.next()});
            if let Some(variant) = parts.next() {
                json["variant"] = variant.into();
            }
            entry.set_platform(Some(serde_json::from_value(json).unwrap()));
        }
        entry
    }

    fn chosen(platforms: &[Option<&str>], wanted: &str) -> Result<u64, NoPlatform> {
        let entries: Vec<_> =
            platforms.iter().zip(0..).map(|(platform, number)| entry(number, *platform)).collect();
        select(&entries, &wanted.parse().unwrap()).map(Descriptor::size)
    }

    #[test]
    fn names_of_the_same_platform_are_one() {
        for (written, normal) in [
            ("amd64", "linux/amd64"),
            ("x86_64", "linux/amd64"),
            ("Linux/AMD64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64"),
            ("linux/arm/v7", "linux/arm"),
            ("linux/armel", "linux/arm/v6"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(written.parse::<Platform>().unwrap().to_string(), normal, "{written}");
        }
        for text in ["", "/", "linux/", "linux/amd64/v1/x", "linux amd64", "linux/\u{e9}"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_best_fitting_variant_is_chosen() {
        let arms = [Some("linux/arm/v5"), Some("linux/arm/v7"), Some("linux/arm/v6"), Some("linux/arm64/v8")];
        assert_eq!(chosen(&arms, "linux/arm/v7"), Ok(1));
        assert_eq!(chosen(&arms, "linux/arm/v6"), Ok(2));
        assert_eq!(chosen(&arms[..1], "linux/arm"), Ok(0));
        assert_eq!(chosen(&arms, "linux/arm64"), Ok(3));
        assert_eq!(chosen(&[Some("linux/amd64/v3"), Some("linux/amd64")], "amd64"), Ok(1));
        assert_eq!(chosen(&[Some("linux/amd64"), Some("linux/amd64/v2")], "linux/amd64/v3"), Ok(1));
        assert!(chosen(&[Some("linux/amd64/v3")], "amd64").is_err());
    }

    #[test]
    fn the_first_of_equals_is_chosen() {
        assert_eq!(chosen(&[Some("linux/arm"), Some("linux/amd64"), Some("linux/amd64")], "amd64"), Ok(1));
    }

    #[test]
    fn attestations_are_passed_over() {
        assert_eq!(chosen(&[Some("unknown/unknown"), None], "amd64"), Ok(1));
        let mut attestation = entry(0, Some("linux/amd64"));
        attestation.set_annotations(Some(
            [("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned())].into(),
        ));
        assert!(select(&[attestation], &Platform::linux_amd64()).is_err());
    }

    #[test]
    fn a_missing_platform_says_what_there_is() {
        let error = chosen(&[Some("linux/s390x"), Some("linux/arm64/v8"), Some("unknown/unknown")], "amd64")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "no image for linux/amd64 in the index (it has linux/arm64, linux/s390x)"
        );
        assert!(chosen(&[None, None], "amd64").is_err());
        assert!(chosen(&[], "amd64").is_err());
    }

    proptest! {
        #[test]
        fn a_choice_always_fits_and_nothing_fits_better(
            platforms in proptest::collection::vec("(linux|windows)/(amd64|arm|arm64)(/v[1-9])?", 0..8),
            wanted in "(linux|windows)/(amd64|arm|arm64)(/v[1-9])?",
        ) {
            let wanted: Platform = wanted.parse().unwrap();
            let entries: Vec<_> = platforms.iter().zip(0..).map(|(text, number)| entry(number, Some(text))).collect();
            let ranks: Vec<_> = platforms.iter().map(|text| wanted.rank(&text.parse().unwrap())).collect();
            match select(&entries, &wanted) {
                Ok(found) => {
                    let rank = ranks[found.size() as usize];
                    prop_assert!(rank.is_some());
                    prop_assert_eq!(rank, ranks.iter().flatten().min().copied());
                }
                Err(_) => prop_assert!(ranks.iter().all(Option::is_none)),
            }
        }
    }
}
