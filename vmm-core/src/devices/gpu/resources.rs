//! The table of 2D resources: bounded in number, size and page runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{PageRun, ResourceInfo};

/// What a guest may use at most.
#[derive(Clone, Copy, Debug)]
pub struct GpuLimits {
    /// Resources alive at a time.
    pub resources: usize,
    /// Width and height in pixels.
    pub dimension: u32,
    /// Entries of one ATTACH_BACKING.
    pub entries: u32,
    /// Bytes of one backing.
    pub backing_bytes: u64,
    /// Page runs of all resources together (16 bytes of host memory each).
    pub total_runs: usize,
}

impl Default for GpuLimits {
    fn default() -> Self {
        Self {
            resources: 4096,
            dimension: 16384,
            entries: 65536,
            backing_bytes: 1 << 30,
            total_runs: 1 << 20,
        }
    }
}

/// Why a command on the table failed.
#[derive(Debug, PartialEq, Eq)]
pub enum TableError {
    NoSuchResource,
    IdInUse,
    Invalid,
    LimitReached,
}

/// A 2D resource, created and perhaps backed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Resource {
    pub width: u32,
    pub height: u32,
    pub format: u32,
    pub backing: Option<Backing>,
}

/// Guest pages of a resource.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Backing {
    pub generation: u64,
    pub runs: Vec<PageRun>,
}

/// All resources of a device.
#[derive(Debug)]
pub struct Table {
    limits: GpuLimits,
    resources: BTreeMap<u32, Resource>,
    total_runs: usize,
    next_generation: u64,
}

impl Table {
    pub fn new(limits: GpuLimits) -> Self {
        Self { limits, resources: BTreeMap::new(), total_runs: 0, next_generation: 1 }
    }

    pub fn limits(&self) -> &GpuLimits {
        &self.limits
    }

    pub fn next_generation(&self) -> u64 {
        self.next_generation
    }

    pub fn set_next_generation(&mut self, next: u64) {
        self.next_generation = self.next_generation.max(next);
    }

    pub fn get(&self, id: u32) -> Option<&Resource> {
        self.resources.get(&id)
    }

    pub fn all(&self) -> &BTreeMap<u32, Resource> {
        &self.resources
    }

    pub fn create(&mut self, id: u32, width: u32, height: u32, format: u32) -> Result<(), TableError> {
        if id == 0 {
            return Err(TableError::NoSuchResource);
        }
        if self.resources.contains_key(&id) {
            return Err(TableError::IdInUse);
        }
        let dimensions = 1..=self.limits.dimension;
        if !dimensions.contains(&width)
            || !dimensions.contains(&height)
            || !super::protocol::is_known_format(format)
        {
            return Err(TableError::Invalid);
        }
        if self.resources.len() >= self.limits.resources {
            return Err(TableError::LimitReached);
        }
        self.resources.insert(id, Resource { width, height, format, backing: None });
        Ok(())
    }

    /// Gives a resource without backing its pages; the runs were checked to lie in guest RAM.
    pub fn attach(&mut self, id: u32, runs: Vec<PageRun>) -> Result<ResourceInfo, TableError> {
        let resource = self.resources.get_mut(&id).ok_or(TableError::NoSuchResource)?;
        if resource.backing.is_some() || runs.is_empty() {
            return Err(TableError::Invalid);
        }
        if self.total_runs.saturating_add(runs.len()) > self.limits.total_runs {
            return Err(TableError::LimitReached);
        }
        self.total_runs += runs.len();
        let generation = self.next_generation;
        self.next_generation += 1;
        let info = ResourceInfo {
            id,
            generation,
            width: resource.width,
            height: resource.height,
            format: resource.format,
            runs: Arc::from(runs.as_slice()),
        };
        resource.backing = Some(Backing { generation, runs });
        Ok(info)
    }

    /// Takes a resource's pages away and returns their generation.
    pub fn detach(&mut self, id: u32) -> Result<u64, TableError> {
        let resource = self.resources.get_mut(&id).ok_or(TableError::NoSuchResource)?;
        let backing = resource.backing.take().ok_or(TableError::Invalid)?;
        self.total_runs = self.total_runs.saturating_sub(backing.runs.len());
        Ok(backing.generation)
    }

    /// Removes a resource and returns the generation of its backing, if it had one.
    pub fn unref(&mut self, id: u32) -> Result<Option<u64>, TableError> {
        let resource = self.resources.remove(&id).ok_or(TableError::NoSuchResource)?;
        let Some(backing) = resource.backing else { return Ok(None) };
        self.total_runs = self.total_runs.saturating_sub(backing.runs.len());
        Ok(Some(backing.generation))
    }
}

/// Joins runs that touch, as they come.
#[derive(Debug, Default)]
pub struct RunList {
    runs: Vec<PageRun>,
    bytes: u64,
}

impl RunList {
    pub fn push(&mut self, addr: u64, len: u64) {
        self.bytes = self.bytes.saturating_add(len);
        if let Some(last) = self.runs.last_mut()
            && last.addr.checked_add(last.len) == Some(addr)
        {
            last.len += len;
            return;
        }
        self.runs.push(PageRun { addr, len });
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn into_runs(self) -> Vec<PageRun> {
        self.runs
    }
}
