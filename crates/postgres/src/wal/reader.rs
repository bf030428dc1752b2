//! Reading WAL records as Postgres' recovery does.
//!
//! Source: `src/backend/access/transam/xlogreader.c` and `access/xlog_internal.h`,
//! `access/xlogrecord.h`: what is used of them is the same in Postgres 13 to 18.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use pgaf_protocol::{Lsn, TimelineId};

use super::WalError;
use super::chain::Chain;
use super::crc32c::Crc32c;
use crate::control::ControlData;

/// `sizeof(XLogRecord)`.
const RECORD_HEADER: usize = 24;
/// `SizeOfXLogShortPHD` and `SizeOfXLogLongPHD`.
const SHORT_HEADER: u64 = 24;
const LONG_HEADER: u64 = 40;
/// `XLP_FIRST_IS_CONTRECORD`: the page begins with the rest of a record.
const CONTINUES: u16 = 0x0001;
/// `XLP_LONG_HEADER`: the first page of a segment.
const LONG: u16 = 0x0002;
/// `XLP_FIRST_IS_OVERWRITE_CONTRECORD`: the record that the page should continue was given up.
const OVERWRITES: u16 = 0x0008;
/// `XLP_ALL_FLAGS`.
const ALL_FLAGS: u16 = 0x000f;
/// `RM_XLOG_ID`.
const RM_XLOG: u8 = 0;
/// `XLOG_SWITCH`: the rest of the segment is unused.
const SWITCH: u8 = 0x40;
/// `XLOG_CHECKPOINT_SHUTDOWN`.
const CHECKPOINT_SHUTDOWN: u8 = 0x00;
/// Bytes read at once (chosen: 32 pages).
const CHUNK: u64 = 256 << 10;

/// A whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) start: Lsn,
    /// The first byte after it, where the next one is looked for.
    pub(super) end: Lsn,
    manager: u8,
    info: u8,
}

impl Record {
    pub(super) const fn is_shutdown(self) -> bool {
        self.manager == RM_XLOG && self.info == CHECKPOINT_SHUTDOWN
    }
}

/// The header of a page.
#[derive(Debug, Clone, Copy)]
struct Header {
    flags: u16,
    /// Bytes of the record that this page continues.
    rest: u32,
    size: u64,
}

/// The segment that is open.
struct Segment {
    number: u64,
    timeline: TimelineId,
    path: PathBuf,
    file: File,
}

pub(super) struct Reader {
    chain: Chain,
    segment_bytes: u64,
    page_bytes: u64,
    system_identifier: u64,
    /// `xlp_magic`, of the first page seen: it names the version of Postgres.
    magic: Option<u16>,
    segment: Option<Segment>,
    /// Bytes of the WAL from `chunk_at` on.
    chunk: Vec<u8>,
    chunk_at: u64,
    /// The bytes of a record that spans pages.
    record: Vec<u8>,
}

/// Why there is no record: there is none, or its place is to be looked for elsewhere.
enum End {
    /// Valid WAL ends.
    Here,
    /// The record was given up; WAL goes on at this page.
    Overwritten(u64),
}

impl Reader {
    pub(super) fn new(chain: Chain, control: &ControlData) -> Self {
        Self {
            chain,
            segment_bytes: u64::from(control.segment_bytes),
            page_bytes: u64::from(control.wal_page_bytes),
            system_identifier: control.system_identifier,
            magic: None,
            segment: None,
            chunk: Vec::new(),
            chunk_at: 0,
            record: Vec::new(),
        }
    }

    pub(super) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The record at `at`, whose predecessor begins at `previous` (anywhere before, if that is not
    /// known); `None` at the end of valid WAL.
    pub(super) fn record(
        &mut self,
        at: Lsn,
        previous: Option<Lsn>,
    ) -> Result<Option<Record>, WalError> {
        let mut at = at.0;
        loop {
            match self.try_record(at, previous)? {
                Ok(record) => return Ok(Some(record)),
                Err(End::Here) => return Ok(None),
                Err(End::Overwritten(page)) => at = page,
            }
        }
    }

    fn try_record(
        &mut self,
        at: u64,
        previous: Option<Lsn>,
    ) -> Result<Result<Record, End>, WalError> {
        let page = at - at % self.page_bytes;
        let Some(header) = self.header(page)? else {
            return Ok(Err(End::Here));
        };
        let start = if at == page { page + header.size } else { at };
        let continued = header.flags & CONTINUES != 0 && header.flags & OVERWRITES == 0;
        if start < page + header.size || (continued && start == page + header.size) {
            return Ok(Err(End::Here));
        }
        let Some(length) = self.bytes(start, 4).and_then(u32_at).map(u64::from) else {
            return Ok(Err(End::Here));
        };
        if length < RECORD_HEADER as u64 {
            return Ok(Err(End::Here));
        }
        let end = match self.gather(start, length)? {
            Ok(end) => end,
            Err(end) => return Ok(Err(end)),
        };
        Ok(self.check(Lsn(start), Lsn(end), previous).ok_or(End::Here))
    }

    /// Collects the bytes of a record from its pages; answers where it ends.
    fn gather(&mut self, start: u64, length: u64) -> Result<Result<u64, End>, WalError> {
        self.record.clear();
        let mut at = start;
        let mut left = length;
        loop {
            let here = left.min(self.page_bytes - at % self.page_bytes);
            let Some(bytes) = slice(&self.chunk, self.chunk_at, at, here) else {
                return Ok(Err(End::Here));
            };
            self.record.extend_from_slice(bytes);
            left -= here;
            if left == 0 {
                return Ok(Ok((at + here).next_multiple_of(8)));
            }
            let page = at - at % self.page_bytes + self.page_bytes;
            let Some(header) = self.header(page)? else {
                return Ok(Err(End::Here));
            };
            if header.flags & OVERWRITES != 0 {
                return Ok(Err(End::Overwritten(page)));
            }
            if header.flags & CONTINUES == 0 || u64::from(header.rest) != left {
                return Ok(Err(End::Here));
            }
            at = page + header.size;
        }
    }

    /// Checks the bytes of a record.
    fn check(&self, start: Lsn, end: Lsn, previous: Option<Lsn>) -> Option<Record> {
        let (header, data) = self.record.split_at_checked(RECORD_HEADER)?;
        let (summed, sum) = header.split_at_checked(20)?;
        let before = Lsn(u64_at(header.get(8..)?)?);
        if !previous.map_or(before < start, |previous| before == previous) {
            return None;
        }
        let mut crc = Crc32c::new();
        crc.update(data);
        crc.update(summed);
        if crc.finish() != u32_at(sum)? {
            return None;
        }
        // The lower half of the flags is the record manager's caller's.
        let (info, manager) = (header.get(16)? & 0xf0, *header.get(17)?);
        let switch = manager == RM_XLOG && info == SWITCH;
        let end = if switch {
            Lsn(end.0.next_multiple_of(self.segment_bytes))
        } else {
            end
        };
        Some(Record {
            start,
            end,
            manager,
            info,
        })
    }

    /// Reads and checks the header of the page at `page`; `None` when it is not a page of this
    /// place: of a recycled segment, never written, or not there.
    fn header(&mut self, page: u64) -> Result<Option<Header>, WalError> {
        if !self.load(page)? {
            return Ok(None);
        }
        Ok(self
            .bytes(page, LONG_HEADER)
            .and_then(|b| self.parse_header(page, b))
            .map(|(header, magic)| {
                self.magic = Some(magic);
                header
            }))
    }

    fn parse_header(&self, page: u64, bytes: &[u8]) -> Option<(Header, u16)> {
        let magic = u16::from_le_bytes(*bytes.first_chunk()?);
        let flags = u16::from_le_bytes(*bytes.get(2..)?.first_chunk()?);
        let timeline = TimelineId(u32_at(bytes.get(4..)?)?);
        let first = page.is_multiple_of(self.segment_bytes);
        let valid = self.magic.is_none_or(|known| known == magic)
            && magic >> 8 == 0xd1
            && flags & !ALL_FLAGS == 0
            && first == (flags & LONG != 0)
            && u64_at(bytes.get(8..)?)? == page
            && self.chain.holds(timeline);
        if !valid {
            return None;
        }
        if first {
            let same = u64_at(bytes.get(24..)?)? == self.system_identifier
                && u64::from(u32_at(bytes.get(32..)?)?) == self.segment_bytes
                && u64::from(u32_at(bytes.get(36..)?)?) == self.page_bytes;
            if !same {
                return None;
            }
        }
        let size = if first { LONG_HEADER } else { SHORT_HEADER };
        Some((
            Header {
                flags,
                rest: u32_at(bytes.get(16..)?)?,
                size,
            },
            magic,
        ))
    }

    /// Bytes that were loaded.
    fn bytes(&self, at: u64, length: u64) -> Option<&[u8]> {
        slice(&self.chunk, self.chunk_at, at, length)
    }

    /// Makes the page at `page` available; `false` when its file is not there, or too short.
    fn load(&mut self, page: u64) -> Result<bool, WalError> {
        if self.bytes(page, self.page_bytes).is_some() {
            return Ok(true);
        }
        let number = page / self.segment_bytes;
        if self.segment.as_ref().is_none_or(|s| s.number != number) && !self.open(number)? {
            return Ok(false);
        }
        let Some(segment) = &self.segment else {
            return Ok(false);
        };
        let offset = page % self.segment_bytes;
        let wanted = CHUNK.max(self.page_bytes).min(self.segment_bytes - offset);
        self.chunk
            .resize(usize::try_from(wanted).unwrap_or_default(), 0);
        self.chunk_at = page;
        let read =
            read_at(&segment.file, &mut self.chunk, offset).map_err(|source| WalError::Read {
                path: segment.path.clone(),
                source,
            })?;
        self.chunk.truncate(read);
        Ok(self.bytes(page, self.page_bytes).is_some())
    }

    fn open(&mut self, number: u64) -> Result<bool, WalError> {
        let oldest = self.segment.as_ref().map_or(TimelineId(0), |s| s.timeline);
        let Some((timeline, path)) = self.chain.file(number, oldest) else {
            return Ok(false);
        };
        match File::open(&path) {
            Ok(file) => {
                self.segment = Some(Segment {
                    number,
                    timeline,
                    path,
                    file,
                });
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(WalError::Read { path, source }),
        }
    }
}

fn slice(chunk: &[u8], chunk_at: u64, at: u64, length: u64) -> Option<&[u8]> {
    let from = usize::try_from(at.checked_sub(chunk_at)?).ok()?;
    chunk.get(from..from.checked_add(usize::try_from(length).ok()?)?)
}

/// Reads as much as there is.
fn read_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

fn u32_at(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|b| u32::from_le_bytes(*b))
}

fn u64_at(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|b| u64::from_le_bytes(*b))
}
