//! What describes a stream as a whole: metadata and manifest at its head, the index at its end.

use super::TensorDesc;
use crate::error::quoted;
use crate::wire::bytes::{Cursor, put_text, put_varint};
use crate::wire::record::MAX_BODY;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// Longest text in the metadata: as long as its record.
const MAX_TEXT: u64 = MAX_BODY as u64;

/// Texts longer than a reader takes are refused.
pub(crate) fn write_metadata(map: &BTreeMap<String, String>, out: &mut Vec<u8>) -> Result<()> {
    put_varint(out, map.len() as u64);
    for (key, value) in map {
        if key.len().max(value.len()) as u64 > MAX_TEXT {
            return Err(Error::invalid(format!(
                "metadata {}: a text of {} bytes, at most {MAX_TEXT} are allowed",
                quoted(key),
                key.len().max(value.len())
            )));
        }
        put_text(out, key);
        put_text(out, value);
    }
    Ok(())
}

/// Keys ascend strictly by their bytes, so a map has one form and no key stands twice.
///
/// `spend` is asked before memory is taken.
pub(crate) fn read_metadata(
    body: &[u8],
    spend: &mut impl FnMut(u64) -> Result<()>,
) -> Result<BTreeMap<String, String>> {
    let mut cursor = Cursor::new(body);
    let count = cursor.varint("number of metadata entries")?;
    let mut map = BTreeMap::new();
    let mut last: Option<&str> = None;
    for _ in 0..count {
        let key = cursor.text(MAX_TEXT, "metadata key")?;
        let value = cursor.text(MAX_TEXT, "metadata value")?;
        if last.is_some_and(|last| last >= key) {
            return Err(Error::corrupt(format!("metadata key {} out of order", quoted(key))));
        }
        last = Some(key);
        // Two strings and their share of a node that may be half empty.
        spend((2 * size_of::<(String, String)>() + key.len() + value.len() + 64) as u64)?;
        map.insert(key.to_owned(), value.to_owned());
    }
    cursor.end("metadata record")?;
    Ok(map)
}

pub(crate) fn write_manifest(tensors: &[TensorDesc], out: &mut Vec<u8>) {
    put_varint(out, tensors.len() as u64);
    tensors.iter().for_each(|t| t.write_to(0, out));
}

/// `spend` is asked before memory is taken.
pub(crate) fn read_manifest(
    body: &[u8],
    spend: &mut impl FnMut(u64) -> Result<()>,
) -> Result<Vec<TensorDesc>> {
    let mut cursor = Cursor::new(body);
    let count = cursor.varint("number of tensors in the manifest")?;
    let mut tensors = Vec::new();
    for _ in 0..count {
        let (tensor, flags) = TensorDesc::read_from(&mut cursor)?;
        if flags != 0 {
            return Err(Error::corrupt(format!("manifest flags: {flags:#04x} is reserved")));
        }
        // The list doubles as it grows, and is copied once to its final size.
        let each = 3 * size_of::<TensorDesc>() + tensor.name.len() + 8 * tensor.shape.len() + 32;
        spend(each as u64)?;
        tensors.push(tensor);
    }
    cursor.end("manifest record")?;
    Ok(tensors)
}

/// Where a tensor record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// Hash of the tensor's name.
    pub name_hash: u64,
    /// Bytes from the first byte of the stream to the first byte of the tensor record.
    pub offset: u64,
}

pub(crate) fn write_index(entries: &[IndexEntry], out: &mut Vec<u8>) {
    put_varint(out, entries.len() as u64);
    for entry in entries {
        out.extend(entry.name_hash.to_le_bytes());
        put_varint(out, entry.offset);
    }
}

pub(crate) fn read_index(body: &[u8]) -> Result<Vec<IndexEntry>> {
    let mut cursor = Cursor::new(body);
    let count = cursor.varint("number of index entries")?;
    let mut entries: Vec<IndexEntry> = Vec::new();
    for _ in 0..count {
        let entry = IndexEntry {
            name_hash: cursor.u64("name hash")?,
            offset: cursor.varint("tensor offset")?,
        };
        if entries.last().is_some_and(|last| last.offset >= entry.offset) {
            return Err(Error::corrupt("index entries out of order"));
        }
        entries.push(entry);
    }
    cursor.end("index record")?;
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    /// Beyond what was counted for an entry, so that a limit is not used up by little.
    const SPARE: usize = 100;

    #[test]
    fn every_entry_of_the_metadata_is_paid_for() {
        for (key, value) in [(0, 0), (1000, 0), (0, 1000), (1000, 1000)] {
            let map = [("k".repeat(key), "v".repeat(value))].into();
            let (mut body, mut spent) = (Vec::new(), 0);
            write_metadata(&map, &mut body).unwrap();
            let read = read_metadata(&body, &mut |bytes| {
                spent += bytes as usize;
                Ok(())
            });
            assert_eq!(read.unwrap(), map);
            // Two strings in a node that is half empty, and their bytes, each text with the two
            // words that an allocator adds.
            let least = 2 * size_of::<(String, String)>() + key + value + 32;
            assert!((least..=least + SPARE).contains(&spent), "{key}, {value}: {spent}");
        }
    }

    #[test]
    fn every_entry_of_a_manifest_is_paid_for() {
        for (name, n_dims) in [(0, 0), (1000, 0), (0, 60), (1000, 60)] {
            let tensors = [TensorDesc::new("n".repeat(name), DType::F32, &vec![1; n_dims])];
            let (mut body, mut spent) = (Vec::new(), 0);
            write_manifest(&tensors, &mut body);
            let read = read_manifest(&body, &mut |bytes| {
                spent += bytes as usize;
                Ok(())
            });
            assert_eq!(read.unwrap(), tensors);
            // A list with as much room again, its copy, and what its entry points to.
            let least = 3 * size_of::<TensorDesc>() + name + n_dims * size_of::<u64>();
            assert!((least..=least + SPARE).contains(&spent), "{name}, {n_dims}: {spent}");
        }
    }

    #[test]
    fn nothing_is_kept_that_is_not_paid_for() {
        let refuse = &mut |_| Err(Error::limit("all", 0, 1));
        let map = [("k".to_owned(), "v".to_owned())].into();
        let mut body = Vec::new();
        write_metadata(&map, &mut body).unwrap();
        assert!(read_metadata(&body, refuse).is_err());
        body.clear();
        write_manifest(&[TensorDesc::new("w", DType::F32, &[])], &mut body);
        assert!(read_manifest(&body, refuse).is_err());
    }
}
