//! Which FAT: entry width, cluster size and the sizes of the regions, from what has to fit.
//!
//! ```text
//! reserved (boot sector, FAT32: FSInfo and copies; padded so that data is aligned) | FAT | FAT | root (12/16) | data
//! ```
//!
//! The width of a FAT's entries is decided by the number of clusters and by nothing else (Microsoft's FAT
//! specification 1.03, section 3.5); the specification advises to keep 16 clusters away from the limits, which is done
//! here.

use super::{Kind, LayoutError, Options, SECTOR, Size};

/// A volume's regions; all in sectors unless named otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) kind: Kind,
    pub(super) sectors_per_cluster: u32,
    pub(super) reserved: u32,
    /// Of one of the two FATs.
    pub(super) fat: u32,
    /// Entries of the root directory of FAT12/16; zero on FAT32.
    pub(super) root_entries: u32,
    /// Data clusters.
    pub(super) clusters: u32,
    pub(super) total: u32,
}

/// What has to be stored, as the choice of a geometry needs it.
pub(super) trait Demand {
    /// Clusters of `cluster` bytes that are taken when allocating from the first one on.
    fn clusters(&self, cluster: u64, root_in_data: bool) -> u64;
    /// Entries of the root directory, the label's included.
    fn root_entries(&self) -> u64;
}

impl Geometry {
    /// The first sector of the data region.
    pub(super) fn data_start(&self) -> u32 {
        self.reserved + 2 * self.fat + self.root_sectors()
    }

    pub(super) fn root_sectors(&self) -> u32 {
        self.root_entries / 16
    }

    /// Bytes of a cluster.
    pub(super) fn cluster(&self) -> u64 {
        u64::from(self.sectors_per_cluster) * SECTOR
    }

    /// Byte offset of a cluster (the first is 2).
    pub(super) fn offset(&self, cluster: u32) -> u64 {
        u64::from(self.data_start()) * SECTOR + u64::from(cluster - 2) * self.cluster()
    }
}

/// Chooses the geometry for `options`: the narrowest FAT with the smallest clusters that hold `demand`.
pub(super) fn choose(demand: &impl Demand, options: &Options) -> Result<Geometry, LayoutError> {
    let (size, grow) = match options.size {
        Size::Exactly(size) => (size, false),
        Size::AtLeast(size) => (size.checked_next_multiple_of(SECTOR).unwrap_or(size), true),
    };
    // BPB_TotSec32 has 32 bits.
    if !size.is_multiple_of(SECTOR) || size / SECTOR > u64::from(u32::MAX) {
        return Err(LayoutError::Size { size });
    }
    if options.alignment > 1 << 20 || !options.alignment.is_power_of_two() {
        return Err(LayoutError::Alignment { alignment: options.alignment });
    }
    let kinds = match &options.kind {
        Some(kind) => std::slice::from_ref(kind),
        None => &[Kind::Fat12, Kind::Fat16, Kind::Fat32],
    };
    for kind in kinds {
        for sectors_per_cluster in [1, 2, 4, 8, 16, 32, 64] {
            let candidate = Candidate { kind: *kind, sectors_per_cluster, alignment: options.alignment };
            if let Some(geometry) = candidate.fit(demand, size / SECTOR, grow, options.kind.is_some()) {
                return Ok(geometry);
            }
        }
    }
    let needed = demand.clusters(SECTOR, true).saturating_mul(SECTOR);
    Err(LayoutError::NoFit { size, kind: options.kind, needed })
}

struct Candidate {
    kind: Kind,
    sectors_per_cluster: u32,
    alignment: u64,
}

impl Candidate {
    /// Clusters that make a volume of this kind.
    fn limits(&self) -> (u64, u64) {
        match self.kind {
            Kind::Fat12 => (1, 4085 - 16),
            Kind::Fat16 => (4085 + 16, 65_525 - 16),
            Kind::Fat32 => (65_525 + 16, 0x0fff_fff5 - 16),
        }
    }

    /// Cluster sizes and volume sizes that are customary, where nobody asked for a kind: larger volumes get the next
    /// kind, larger FAT32 volumes larger clusters.
    fn is_customary(&self, clusters: u64) -> bool {
        let bytes = clusters * u64::from(self.sectors_per_cluster) * SECTOR;
        match self.kind {
            Kind::Fat12 => bytes <= 4 << 20,
            Kind::Fat16 => bytes <= 512 << 20,
            Kind::Fat32 => true,
        }
    }

    fn fit(&self, demand: &impl Demand, sectors: u64, grow: bool, asked_for: bool) -> Option<Geometry> {
        let cluster = u64::from(self.sectors_per_cluster) * SECTOR;
        let needed = demand.clusters(cluster, self.kind == Kind::Fat32);
        let (min, max) = self.limits();
        let given = self.clusters_in(demand, sectors)?;
        let clusters = if grow { given.max(needed).max(min) } else { given };
        // FAT32 with 512-byte clusters is for small volumes: its FAT would be of the volume's size / 64.
        let small =
            self.kind == Kind::Fat32 && self.sectors_per_cluster < 8 && clusters * cluster > 260 << 20;
        let fits = (min..=max).contains(&clusters) && clusters >= needed;
        if !fits || small || (!asked_for && !self.is_customary(clusters)) {
            return None;
        }
        let mut geometry = self.geometry(demand, clusters)?;
        if u64::from(geometry.total) < sectors {
            // A remainder smaller than a cluster stays unused at the end.
            geometry.total = u32::try_from(sectors).ok()?;
        }
        (grow || u64::from(geometry.total) == sectors).then_some(geometry)
    }

    /// The most clusters that fit in `sectors`, by bisection: more clusters never take fewer sectors.
    fn clusters_in(&self, demand: &impl Demand, sectors: u64) -> Option<u64> {
        let (mut low, mut high) = (0, sectors / u64::from(self.sectors_per_cluster) + 1);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            match self.geometry(demand, middle) {
                Some(geometry) if u64::from(geometry.total) <= sectors => low = middle,
                _ => high = middle,
            }
        }
        Some(low)
    }

    /// The volume with so many clusters.
    fn geometry(&self, demand: &impl Demand, clusters: u64) -> Option<Geometry> {
        let bits = match self.kind {
            Kind::Fat12 => 12,
            Kind::Fat16 => 16,
            Kind::Fat32 => 32,
        };
        let fat = ((clusters + 2) * bits).div_ceil(8 * SECTOR);
        let root_entries = match self.kind {
            Kind::Fat32 => 0,
            _ => u16::try_from(demand.root_entries().next_multiple_of(16).max(512)).ok()?.into(),
        };
        let least = if self.kind == Kind::Fat32 { 32 } else { 1 };
        let others = 2 * fat + u64::from(root_entries) / 16;
        let align = (self.alignment / SECTOR).max(self.sectors_per_cluster.into());
        let start = (least + others).next_multiple_of(align);
        let total = start.checked_add(clusters.checked_mul(self.sectors_per_cluster.into())?)?;
        // BPB_RsvdSecCnt has 16 bits.
        let reserved = u16::try_from(start - others).ok()?.into();
        let (fat, total) = (u32::try_from(fat).ok()?, u32::try_from(total).ok()?);
        let (kind, sectors_per_cluster) = (self.kind, self.sectors_per_cluster);
        let clusters = u32::try_from(clusters).ok()?;
        Some(Geometry { kind, sectors_per_cluster, reserved, fat, root_entries, clusters, total })
    }
}
