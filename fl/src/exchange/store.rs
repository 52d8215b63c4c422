//! [`FeatureStore`]: the last complete upload of each client.

use super::file::{Folder, load, read_row};
use super::incoming::{Context, Fault, IncomingUpload};
use super::options::StoreOptions;
use super::order::Bench;
use super::samples::Samples;
use super::sink::Sink;
use crate::message::{EVERYONE, Reason, Rejection};
use crate::{Error, Result};
use fedpress::DecodeOptions;
use std::collections::BTreeMap;
use std::fs::File;

/// What became of bytes from a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Upload {
    /// The upload has not ended yet.
    More,
    /// It was complete and right, and is what the store has of this client from now on.
    Taken {
        /// Its samples.
        samples: usize,
    },
    /// It was not taken; the store is as it was.
    Rejected(Rejection),
}

/// Features, logits and labels of the samples of all clients, in bounded memory.
///
/// The first upload that is taken from a client names its samples and their labels. Each later one
/// has features and logits for exactly these: then all that is known of a client comes from one
/// state of its model, and how old it is is one number. An upload is checked as it arrives, piece by
/// piece, and changes nothing before it is complete.
///
/// With a folder, features go to a temporary file as they are decoded; the complete file is synced
/// and renamed, so that after a crash the folder has the last complete upload of each client. As
/// many clients as fit into [`StoreOptions::memory`] are held in memory beside, each of them whole.
///
/// ```
/// use fedpress_fl::{
///     FeatureSpecs, FeatureStore, FeatureWriter, Features, RoundingSeed, StoreOptions, Upload,
/// };
/// let header = Features { run: 1, round: 0, client: 3, shape: vec![2, 2], classes: 3 };
/// let (specs, rounding) = (FeatureSpecs::default(), RoundingSeed(0x5eed));
/// let mut writer = FeatureWriter::new(Vec::new(), header, specs, 7, rounding)?;
/// let features = [0.0, 1.5, 0.0, 0.25];
/// writer.batch(&[40], &features, &[0.1, -1.0, 2.0], Some(&[2]))?;
/// let message = writer.finish()?;
///
/// let mut store = FeatureStore::open(StoreOptions::new(1, &[2, 2], 3))?;
/// assert_eq!(store.receive(3, 0, &message)?, Upload::Taken { samples: 1 });
/// let (mut features, mut logits, mut labels) = (vec![], vec![], vec![]);
/// store.read(&[(3, 40)], &mut features, &mut logits, &mut labels)?;
/// assert_eq!((features[1], logits[2], labels[0]), (1.5, 2.0, 2));
/// # Ok::<(), fedpress_fl::Error>(())
/// ```
pub struct FeatureStore {
    pub(super) options: StoreOptions,
    pub(super) clients: BTreeMap<u64, Samples>,
    /// Goes before the folder, whose lock keeps others away from the temporary files.
    incoming: BTreeMap<u64, IncomingUpload>,
    pub(super) folder: Option<Folder>,
    /// Bytes of the features in `clients`.
    held: u64,
    bench: Bench,
}

impl FeatureStore {
    /// Opens a store, with what an earlier one left in the folder. Uploads that were on their way
    /// when it ended are gone. Features that do not fit in memory are not read now, but checked when
    /// they are.
    ///
    /// # Errors
    /// Those of [`StoreOptions::check`]; `Io` where the folder refuses, or another store has it;
    /// naming the file, as decoding (`Corrupt`, `Truncated`, `Unsupported`) for one that is damaged,
    /// and `InvalidArgument` for one of another run, shape or number of classes, or larger than the
    /// options allow. Without that file, its client begins anew with a first upload.
    pub fn open(options: StoreOptions) -> Result<Self> {
        options.check()?;
        let folder = options.folder.as_deref().map(Folder::open).transpose()?;
        let mut decode = DecodeOptions::default();
        decode.memory = options.decode_memory;
        let mut store = Self {
            options,
            folder,
            clients: BTreeMap::new(),
            incoming: BTreeMap::new(),
            held: 0,
            bench: Bench::new(&decode),
        };
        store.find()?;
        Ok(store)
    }

    /// An empty store: what an earlier one left in the folder is removed, unread.
    ///
    /// # Errors
    /// Those of [`StoreOptions::check`]; `Io` where the folder refuses, or another store has it.
    pub fn create(options: StoreOptions) -> Result<Self> {
        options.check()?;
        if let Some(folder) = options.folder.as_deref().map(Folder::open).transpose()? {
            folder.clients()?.into_iter().try_for_each(|client| folder.remove(client))?;
        }
        Self::open(options)
    }

    /// What the folder has.
    fn find(&mut self) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let clients = folder.clients()?;
        let most = self.options.max_clients;
        if clients.len() > most {
            let n = clients.len();
            return Err(Error::invalid(format!("files of {n} clients, {most} are allowed")));
        }
        for client in clients {
            let path = folder.file(client);
            let (round, table) = load(&path, client, &self.options)?;
            let samples = Samples::new(round, table, None).map_err(|e| e.in_file(&path))?;
            self.clients.insert(client, samples);
        }
        let clients: Vec<u64> = self.clients.keys().copied().collect();
        clients.into_iter().try_for_each(|client| self.hold(client))
    }

    /// The next bytes of a client, whose identity the transport vouches for; cut anywhere. `round`
    /// is the round of the server: the upload has to be of it, and the client's first in it.
    ///
    /// After a rejection the client may begin another message. What was still to come of the
    /// rejected one is not to be handed in: it would be taken for that other message.
    ///
    /// # Errors
    /// `Io` where the disk refuses; the store is as it was, and the upload has to begin again.
    pub fn receive(&mut self, client: u64, round: u64, bytes: &[u8]) -> Result<Upload> {
        let incoming = self.incoming.remove(&client);
        match self.advance(client, round, incoming, bytes) {
            Ok(upload) => Ok(upload),
            Err(Fault::Refused((reason, detail))) => {
                let run = self.options.run;
                Ok(Upload::Rejected(Rejection { run, round, client, reason, detail }))
            }
            Err(Fault::Failed(error)) => Err(error),
        }
    }

    fn advance(
        &mut self,
        client: u64,
        round: u64,
        incoming: Option<IncomingUpload>,
        bytes: &[u8],
    ) -> std::result::Result<Upload, Fault> {
        let mut incoming = match incoming {
            Some(incoming) if incoming.round == round => incoming,
            Some(incoming) => {
                let detail = format!("an upload of round {} was on its way", incoming.round);
                return Err((Reason::WrongRound, detail).into());
            }
            None => self.begin(client, round)?,
        };
        let claimed: u64 = self.incoming.values().map(|incoming| incoming.claimed).sum();
        let room = self.options.memory.saturating_sub(self.held).saturating_sub(claimed);
        let mut context = Context {
            options: &self.options,
            known: self.clients.get(&client),
            room: self.folder.is_none().then_some(room),
            bench: &mut self.bench,
        };
        if !incoming.push(bytes, &mut context)? {
            self.incoming.insert(client, incoming);
            return Ok(Upload::More);
        }
        Ok(self.commit(client, incoming)?)
    }

    fn begin(&self, client: u64, round: u64) -> std::result::Result<IncomingUpload, Fault> {
        let refuse = |reason, detail: String| Err(Fault::Refused((reason, detail)));
        if client == EVERYONE {
            return refuse(Reason::NotSelected, "nobody's number".into());
        }
        match self.clients.get(&client) {
            Some(known) if known.round == round => {
                return refuse(Reason::Duplicate, "its upload was taken already".into());
            }
            Some(_) => {}
            None => {
                let is_new = |client: &&u64| !self.clients.contains_key(*client);
                let n = self.clients.len() + self.incoming.keys().filter(is_new).count();
                if n >= self.options.max_clients {
                    return refuse(Reason::NotSelected, format!("there are {n} clients"));
                }
            }
        }
        if self.incoming.len() >= self.options.max_in_flight {
            let most = self.options.max_in_flight;
            return refuse(Reason::Busy, format!("{most} uploads are on their way"));
        }
        let sink = Sink::new(self.folder.as_ref(), client)?;
        Ok(IncomingUpload::new(client, round, &self.options, sink))
    }

    /// Everything is there and right.
    fn commit(&mut self, client: u64, incoming: IncomingUpload) -> Result<Upload> {
        let Some((header, table, sink)) = incoming.into_parts() else {
            return Err(Error::invalid("an upload without a header"));
        };
        let features = sink.commit(self.folder.as_ref(), &header, &table)?;
        let samples = Samples::new(header.round, table, features)?;
        let n = samples.ids().len();
        self.held += self.n_held(&samples);
        if let Some(before) = self.clients.insert(client, samples) {
            self.held -= self.n_held(&before);
        }
        // What cannot be read now is read, or said, when it is asked for.
        let _ = self.hold(client);
        Ok(Upload::Taken { samples: n })
    }

    /// Bytes of features that are in memory.
    fn n_held(&self, samples: &Samples) -> u64 {
        let rows = samples.features.as_ref().map_or(0, Vec::len);
        rows as u64 * self.options.sample_bytes() as u64
    }

    /// Brings the features of a client from its file to memory, if there is room for all.
    fn hold(&mut self, client: u64) -> Result<()> {
        let (Some(folder), Some(samples)) = (&self.folder, self.clients.get_mut(&client)) else {
            return Ok(());
        };
        let (each, n) = (self.options.sample_bytes(), samples.ids().len());
        let needed = n as u64 * each as u64;
        if samples.features.is_some() || needed > self.options.memory.saturating_sub(self.held) {
            return Ok(());
        }
        let path = folder.file(client);
        let mut file = File::open(&path).map_err(|e| Error::io(&path, e))?;
        let row = |row| {
            let mut features = vec![0; each].into_boxed_slice();
            read_row(&mut file, &path, row, samples.sum(row), &mut features)?;
            Ok(features)
        };
        samples.features = Some((0..n).map(row).collect::<Result<_>>()?);
        self.held += needed;
        Ok(())
    }

    /// This client will not finish its upload; what has come of it is forgotten.
    pub fn forget(&mut self, client: u64) {
        self.incoming.remove(&client);
    }

    /// Nothing of this client stays: neither samples, nor labels, nor its file. What it sends next
    /// is a first upload.
    ///
    /// # Errors
    /// `Io` where the disk refuses.
    pub fn remove(&mut self, client: u64) -> Result<()> {
        self.incoming.remove(&client);
        if let Some(folder) = &self.folder {
            folder.remove(client)?;
        }
        if let Some(samples) = self.clients.remove(&client) {
            self.held -= self.n_held(&samples);
        }
        Ok(())
    }

    /// Clients, ascending, with the round and the number of samples of their last upload.
    pub fn clients(&self) -> impl Iterator<Item = (u64, u64, usize)> + '_ {
        self.clients.iter().map(|(client, known)| (*client, known.round, known.ids().len()))
    }

    /// The samples of a client, ascending; none of one that is not known.
    pub fn samples(&self, client: u64) -> &[u32] {
        self.clients.get(&client).map_or(&[], Samples::ids)
    }

    /// The label of a sample.
    pub fn label(&self, client: u64, id: u32) -> Option<u16> {
        let known = self.clients.get(&client)?;
        Some(known.label(known.row(id)?))
    }

    /// Bytes of decoded features in memory.
    pub fn held(&self) -> u64 {
        self.held + self.incoming.values().map(|incoming| incoming.claimed).sum::<u64>()
    }
}
