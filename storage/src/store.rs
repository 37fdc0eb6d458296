//! From a folder to an open store: lock, manifest, journal, state. It does not compare what journal
//! and state know; recovery above does.

use std::{path::Path, sync::Arc};

use tracing::info;

use crate::{
    FileJournal, Journal, JournalLook, JournalOptions, Opening, OpeningStep, Position, SplitState,
    StateOptions, StorageError, StoreLock, disk, lock::LOCK_NAME, manifest,
};

type Result<T> = std::result::Result<T, StorageError>;

const JOURNAL_NAME: &str = "journal";
const STATE_NAME: &str = "state";

/// How a store uses memory and disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreOptions {
    /// The journal's part.
    pub journal: JournalOptions,
    /// The state's part.
    pub state: StateOptions,
}

/// The folder of one store.
#[derive(Debug)]
pub struct Store;

/// A store that has been opened.
#[derive(Debug)]
pub struct Opened {
    /// What happened.
    pub journal: Arc<FileJournal>,
    /// What can be looked up. It may know positions that the journal never made durable.
    pub state: Arc<SplitState>,
    /// What the manifest says.
    pub manifest: Vec<u8>,
    /// Whether the store was created just now.
    pub fresh: bool,
    /// To be dropped last, after the journal is closed and the state is dropped.
    pub lock: StoreLock,
}

/// A store that is looked at.
#[derive(Debug)]
pub struct Looked {
    /// What happened, to be read only.
    pub journal: Arc<FileJournal>,
    /// The journal's files.
    pub look: JournalLook,
    /// A copy of what can be looked up.
    pub state: Arc<SplitState>,
    /// The size of the state itself, in bytes.
    pub state_bytes: u64,
    /// To be dropped last; `None` if the store has no lock file.
    pub lock: Option<StoreLock>,
}

impl Store {
    /// Opens the store in `folder`, or creates one there, with `fresh_manifest` as its manifest.
    ///
    /// `opening` is told how far it is. A creation that was cut short is taken up again. A folder
    /// that holds anything else is left as it is.
    ///
    /// # Errors
    /// [`StorageError::Locked`], [`StorageError::NotAStore`], [`StorageError::NewerFormat`],
    /// [`StorageError::Damaged`], and whatever journal and state meet.
    pub fn open(
        folder: impl AsRef<Path>,
        options: &StoreOptions,
        opening: &Opening,
        fresh_manifest: impl FnOnce() -> Vec<u8>,
    ) -> Result<Opened> {
        let folder = folder.as_ref();
        // First by looking only: a lock file in somebody else's folder would already be an
        // intrusion.
        refuse_foreign(folder)?;
        disk::create_folder(folder)?;
        let lock = StoreLock::take(folder)?;
        match manifest::read(folder)? {
            Some(manifest) => {
                let (journal, state) = (folder.join(JOURNAL_NAME), folder.join(STATE_NAME));
                opening.begin(OpeningStep::CheckingJournal, 0);
                let journal = FileJournal::open_existing(&journal, &options.journal, opening)?;
                opening.begin(OpeningStep::CheckingState, 0);
                let state = SplitState::open_existing(&state, &options.state, opening)?;
                let (journal, state) = (Arc::new(journal), Arc::new(state));
                Ok(Opened { journal, state, manifest, fresh: false, lock })
            }
            None => create(folder, options, fresh_manifest(), lock),
        }
    }
}

impl Store {
    /// Opens the store in `folder`, which must be there and whole.
    ///
    /// # Errors
    /// [`StorageError::NotAStore`] if there is none, else as [`Store::open`].
    pub fn open_existing(folder: impl AsRef<Path>, options: &StoreOptions) -> Result<Opened> {
        let folder = folder.as_ref();
        if !folder.join(manifest::MANIFEST_NAME).exists() {
            let what = "there is no store in it".to_owned();
            return Err(StorageError::NotAStore { path: folder.to_path_buf(), what });
        }
        Self::open(folder, options, &Opening::default(), Vec::new)
    }

    /// Looks at the store in `folder` without changing anything in it: the journal is read as it
    /// is, and the state, which writes when it is opened, is copied to the empty folder `scratch`
    /// first. Whoever calls removes that folder.
    ///
    /// # Errors
    /// As [`Store::open_existing`]; [`StorageError::Full`] if `scratch` has no room for the state.
    pub fn look(folder: impl AsRef<Path>, scratch: &Path) -> Result<Looked> {
        let folder = folder.as_ref();
        let Some(_) = manifest::read(folder)? else {
            let what = "there is no store in it".to_owned();
            return Err(StorageError::NotAStore { path: folder.to_path_buf(), what });
        };
        let lock = StoreLock::take_as_it_is(folder)?;
        let (journal, look) = FileJournal::look(&folder.join(JOURNAL_NAME))?;
        let copy = scratch.join(STATE_NAME);
        let state_bytes = disk::copy_folder(&folder.join(STATE_NAME), &copy)?;
        let state =
            SplitState::open_existing(&copy, &StateOptions::default(), &Opening::default())?;
        let (journal, state) = (Arc::new(journal), Arc::new(state));
        Ok(Looked { journal, look, state, state_bytes, lock })
    }
}

/// An error unless `folder` is a store, or one half created, or empty, or absent.
fn refuse_foreign(folder: &Path) -> Result<()> {
    let not_a_store =
        |what: String| Err(StorageError::NotAStore { path: folder.to_path_buf(), what });
    if !folder.exists() {
        return Ok(());
    }
    if !folder.is_dir() {
        return not_a_store("it is not a folder".to_owned());
    }
    if folder.join(manifest::MANIFEST_NAME).exists() {
        return Ok(());
    }
    for (name, _) in disk::list(folder)? {
        let ours = [LOCK_NAME, JOURNAL_NAME, STATE_NAME, manifest::UNFINISHED_NAME];
        if !ours.contains(&name.as_str()) {
            return not_a_store(format!("it holds {name:?} and no {}", manifest::MANIFEST_NAME));
        }
    }
    Ok(())
}

/// Creates a store, or finishes creating one. The manifest comes last: with it, everything is
/// there.
fn create(
    folder: &Path,
    options: &StoreOptions,
    manifest: Vec<u8>,
    lock: StoreLock,
) -> Result<Opened> {
    let journal = FileJournal::open(folder.join(JOURNAL_NAME), &options.journal)?;
    if journal.appended() > Position::ZERO || journal.oldest() > Position(1) {
        let path = folder.join(manifest::MANIFEST_NAME);
        let what = "it is gone, though the journal beside it holds records";
        return Err(StorageError::damaged(&path, 0, what));
    }
    let state = SplitState::open(folder.join(STATE_NAME), &options.state)?;
    disk::sync_folder(folder)?;
    manifest::write(folder, &manifest)?;
    info!(path = %folder.display(), "store created");
    let (journal, state) = (Arc::new(journal), Arc::new(state));
    Ok(Opened { journal, state, manifest, fresh: true, lock })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        State, Table,
        conformance::{batch, commit},
    };

    fn options() -> StoreOptions {
        let journal = JournalOptions { segment_bytes: 64 << 10, ..JournalOptions::default() };
        StoreOptions { journal, ..StoreOptions::default() }
    }

    fn open(folder: &Path) -> Result<Opened> {
        Store::open(folder, &options(), &Opening::default(), || b"fresh".to_vec())
    }

    #[test]
    fn creates_then_opens() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a/b/store");
        let opened = open(&folder).unwrap();
        assert!(opened.fresh);
        commit(&*opened.journal, batch(1, 0, &[b"record"]));
        opened.state.put(Table(1), b"k", b"v").unwrap();
        opened.state.flush().unwrap();
        assert!(matches!(open(&folder), Err(StorageError::Locked { .. })));
        drop(opened);
        let opened =
            Store::open(&folder, &options(), &Opening::default(), || panic!("not fresh")).unwrap();
        assert_eq!((opened.fresh, opened.manifest), (false, b"fresh".to_vec()));
        assert_eq!(opened.journal.durable(), Position(1));
        assert_eq!(opened.state.get(Table(1), b"k").unwrap().unwrap(), b"v");
    }

    #[test]
    fn foreign_folders_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.txt"), b"x").unwrap();
        assert!(matches!(open(folder.path()), Err(StorageError::NotAStore { .. })));
        assert_eq!(disk::list(folder.path()).unwrap().len(), 1);
        let file = folder.path().join("thesis.txt");
        assert!(matches!(open(&file), Err(StorageError::NotAStore { .. })));
    }

    #[test]
    fn every_half_created_store_opens_as_fresh() {
        let steps: [&dyn Fn(&Path); 12] = [
            &|_| {},
            &|at| fs::write(at.join("LOCK"), b"").unwrap(),
            &|at| fs::create_dir(at.join("journal")).unwrap(),
            &|at| fs::write(at.join("journal/00000000000000000001.tmp"), [0; 99]).unwrap(),
            &|at| {
                fs::remove_file(at.join("journal/00000000000000000001.tmp")).unwrap();
                drop(FileJournal::open(at.join("journal"), &options().journal).unwrap());
            },
            &|at| {
                let log = at.join("state/log");
                drop(FileJournal::open(log, &JournalOptions::default()).unwrap());
            },
            &|at| fs::create_dir_all(at.join("state/index/blobs")).unwrap(),
            &|at| fs::write(at.join("state/index/conf"), b"half a conf").unwrap(),
            &|at| fs::write(at.join("state/index.closed"), b"closed").unwrap(),
            &|at| {
                let log = at.join("state/snapshots/log");
                drop(FileJournal::open(log, &JournalOptions::default()).unwrap());
            },
            &|at| fs::create_dir_all(at.join("state/snapshots/index/blobs")).unwrap(),
            &|at| fs::write(at.join("tidegate.store.tmp"), b"TIDEG").unwrap(),
        ];
        for reached in 0..steps.len() {
            let parent = tempfile::tempdir().unwrap();
            let folder = parent.path().join("store");
            fs::create_dir(&folder).unwrap();
            for step in &steps[..=reached] {
                step(&folder);
            }
            let opened = open(&folder).unwrap_or_else(|error| panic!("step {reached}: {error}"));
            assert!(opened.fresh);
            commit(&*opened.journal, batch(1, 0, &[b"record"]));
            drop(opened);
            assert!(!open(&folder).unwrap().fresh);
        }
    }

    #[test]
    fn a_lost_manifest_or_journal_is_damage_not_a_new_store() {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(folder.path()).unwrap();
        commit(&*opened.journal, batch(1, 0, &[b"record"]));
        drop(opened);
        let manifest = folder.path().join(manifest::MANIFEST_NAME);
        let kept = fs::read(&manifest).unwrap();
        fs::remove_file(&manifest).unwrap();
        assert!(matches!(open(folder.path()), Err(StorageError::Damaged { .. })));
        fs::write(&manifest, kept).unwrap();
        assert_eq!(open(folder.path()).unwrap().journal.durable(), Position(1));
        fs::remove_dir_all(folder.path().join("journal")).unwrap();
        assert!(matches!(open(folder.path()), Err(StorageError::Damaged { .. })));
    }
}
