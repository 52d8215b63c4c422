//! Where results go: a file that appears when it is complete, something that is written in place,
//! or standard output.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::{NamedTempFile, TempPath};

use crate::exit::Usage;
use crate::files::{Input, Output};
use crate::interrupt::Uninterrupted;

/// What to write to, as named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A file, a named pipe or a device.
    Path(PathBuf),
    /// Standard output.
    Stdout,
}

impl From<PathBuf> for Destination {
    /// `-` is standard output.
    fn from(path: PathBuf) -> Self {
        if path.as_os_str() == "-" { Self::Stdout } else { Self::Path(path) }
    }
}

impl Destination {
    /// How messages call it.
    pub fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Stdout => "-".into(),
        }
    }
}

/// An opened destination. Dropped without [`commit`](Self::commit), a regular file was never there.
pub enum Opened {
    /// Standard output, without the buffer that looks for line ends.
    Stdout(File),
    /// A device, a pipe, or what a link points to.
    InPlace(File),
    /// A temporary file beside the final one.
    Atomic { file: NamedTempFile, path: PathBuf, force: bool },
}

impl Opened {
    /// Opens; refuses terminals and, without force, existing files. `input` must not be the same
    /// file where it would be overwritten while it is being read.
    pub fn open(destination: &Destination, force: bool, input: Option<&Input>) -> Result<Self> {
        let path = match destination {
            Destination::Stdout => return stdout(force).map(Self::Stdout),
            Destination::Path(path) if path.as_os_str().is_empty() => {
                Err(Usage::new("the name of the output is empty"))?
            }
            Destination::Path(path) => path,
        };
        let cannot = || cannot_write(path);
        let target = std::fs::metadata(path).ok();
        let is_folder = path.as_os_str().to_string_lossy().ends_with(std::path::is_separator);
        if is_folder || target.as_ref().is_some_and(|m| m.is_dir()) {
            Err(Usage::new(format!("{} is a folder, not a file", path.display())))?;
        }
        let replaces = target.as_ref().is_some_and(|m| m.is_file());
        if replaces && !force {
            Err(exists(path))?;
        }
        if let (true, Some(Input::Path(input))) = (replaces, input)
            && is_same(input, path)
        {
            Err(Usage::new(format!("{} is the input itself", path.display())))?;
        }
        if target.as_ref().is_some_and(|m| !m.is_file()) || path.is_symlink() {
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(path);
            return Ok(Self::InPlace(file.with_context(cannot)?));
        }
        let mut uninterrupted = Uninterrupted::begin();
        let file = temporary(folder_of(path)).with_context(cannot)?;
        uninterrupted.guard(file.path());
        drop(uninterrupted);
        if let Some(replaced) = target {
            // What was private stays private.
            file.as_file().set_permissions(replaced.permissions()).with_context(cannot)?;
        }
        Ok(Self::Atomic { file, path: path.clone(), force })
    }

    /// What to write to; seekable where bytes can be replaced.
    pub fn output(&self) -> Result<Output<'_>> {
        match self {
            // Even if it is a file: other bytes may stand before ours.
            Self::Stdout(file) => Ok(Output::stream(file)),
            Self::InPlace(file) => Output::file(file),
            Self::Atomic { file, .. } => Output::file(file.as_file()),
        }
    }

    /// Everything was written and flushed: makes it last, and closes it. Its name it does not have yet.
    pub fn written(self) -> Result<Written> {
        let Self::Atomic { file, path, force } = self else { return Ok(Written(None)) };
        file.as_file().sync_all().with_context(|| cannot_write(&path))?;
        Ok(Written(Some(Unnamed { file: file.into_temp_path(), path, force })))
    }

    /// The same, and gives it its name.
    pub fn commit(self) -> Result<()> {
        Written::commit([self.written()?])
    }
}

/// What is on the disk and lacks its name. Dropped without [`commit`](Self::commit), it was never there.
pub struct Written(Option<Unnamed>);

/// A temporary file, and what it is going to be called.
struct Unnamed {
    file: TempPath,
    path: PathBuf,
    force: bool,
}

impl Written {
    /// Gives all of them their names, in their order, without being interrupted.
    pub fn commit(files: impl IntoIterator<Item = Self>) -> Result<()> {
        let mut uninterrupted = Uninterrupted::begin();
        let mut folders = BTreeSet::new();
        for Unnamed { file, path, force } in files.into_iter().filter_map(|file| file.0) {
            let temporary = file.to_path_buf();
            let result = if force { file.persist(&path) } else { file.persist_noclobber(&path) };
            uninterrupted.release(&temporary, result.is_ok());
            if let Err(error) = result {
                if error.error.kind() == io::ErrorKind::AlreadyExists {
                    Err(exists(&path))?;
                }
                return Err(error.error).with_context(|| cannot_write(&path));
            }
            folders.insert(folder_of(&path).to_owned());
        }
        drop(uninterrupted);
        // The names are in the folders, which some file systems cannot sync; then it has to do.
        #[cfg(unix)]
        for folder in folders {
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
        Ok(())
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// `stem` and `extension` (with its dot, or empty), with a number between them if that makes it free.
pub fn free_name(stem: &str, extension: &str) -> PathBuf {
    let name = |n: u32| match n {
        1 => format!("{stem}{extension}"),
        n => format!("{stem}-{n}{extension}"),
    };
    let free = (1..u32::MAX).map(name).find(|name| !Path::new(name).exists());
    free.unwrap_or_default().into()
}

fn exists(path: &Path) -> Usage {
    Usage::new(format!("{} exists; -f replaces it", path.display()))
}

/// Whether two names, both of existing files, mean the same one.
fn is_same(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let id = |path: &Path| std::fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
        id(a).is_some() && id(a) == id(b)
    }
    #[cfg(not(unix))]
    {
        a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A temporary file with the permissions of any new file.
pub fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".fedpress-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

fn stdout(force: bool) -> Result<File> {
    let stdout = io::stdout();
    if stdout.is_terminal() && !force {
        Err(Usage::new("binary data would go to the terminal; give -o FILE, or -f to insist"))?;
    }
    #[cfg(unix)]
    let owned = std::os::fd::AsFd::as_fd(&stdout).try_clone_to_owned();
    #[cfg(windows)]
    let owned = std::os::windows::io::AsHandle::as_handle(&stdout).try_clone_to_owned();
    Ok(File::from(owned.context("cannot use standard output")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_appears_only_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let names = || std::fs::read_dir(folder.path()).unwrap().count();
        let open = |force| Opened::open(&Destination::Path(path.clone()), force, None);
        drop(open(false).unwrap());
        assert_eq!(names(), 0);
        let opened = open(false).unwrap();
        let mut output = opened.output().unwrap();
        output.write_all(b"abc").unwrap();
        output.flush().unwrap();
        drop(output);
        assert!(!path.exists());
        opened.commit().unwrap();
        assert_eq!((std::fs::read(&path).unwrap().as_slice(), names()), (&b"abc"[..], 1));
        assert!(open(false).is_err());
        open(true).unwrap().commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }
}
