//! [`Dataset`]: labelled images as bytes, and the batches made of them.

use super::View;
use burn::tensor::{Device, Int, Tensor, TensorData};
use fedpress_fl::{Error, Result};

/// What a byte x of channel c becomes when a batch is built: `(x / 255 - mean[c]) / std[c]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalisation {
    /// One for each channel, on the scale of 0 to 1.
    pub mean: Vec<f32>,
    /// One for each channel, above 0.
    pub std: Vec<f32>,
}

impl Normalisation {
    /// Only `x / 255`: what the papers' code feeds to the CNN for MNIST.
    pub fn unit(channels: usize) -> Self {
        Self { mean: vec![0.0; channels], std: vec![1.0; channels] }
    }

    /// Mean and standard deviation of CIFAR-10's training set, as published everywhere.
    pub fn cifar10() -> Self {
        Self { mean: vec![0.4914, 0.4822, 0.4465], std: vec![0.2470, 0.2435, 0.2616] }
    }

    /// Mean and standard deviation of CIFAR-100's training set, as published everywhere.
    pub fn cifar100() -> Self {
        Self { mean: vec![0.5071, 0.4865, 0.4409], std: vec![0.2673, 0.2564, 0.2762] }
    }

    /// For each channel, what each byte becomes.
    fn tables(&self) -> Vec<[f32; 256]> {
        let table =
            |(mean, std): (&f32, &f32)| std::array::from_fn(|x| (x as f32 / 255.0 - mean) / std);
        self.mean.iter().zip(&self.std).map(table).collect()
    }
}

/// Labelled images, as bytes: one byte a value, channel by channel, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    shape: [usize; 3],
    n_classes: usize,
    images: Vec<u8>,
    labels: Vec<u16>,
    normalisation: Normalisation,
    tables: Vec<[f32; 256]>,
}

impl Dataset {
    /// From `images`, example after example, each of `shape` = `[channels, height, width]`, with
    /// plain `x / 255`.
    ///
    /// # Errors
    /// `InvalidArgument` where sizes do not agree, a label is not below `n_classes`, or there are
    /// more than 2^32 - 1 examples.
    pub fn new(
        shape: [usize; 3],
        n_classes: usize,
        images: Vec<u8>,
        labels: Vec<u16>,
    ) -> Result<Self> {
        let values = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let expected = values.filter(|n| *n > 0).and_then(|n| n.checked_mul(labels.len()));
        if expected != Some(images.len()) || u32::try_from(labels.len()).is_err() {
            let (examples, found) = (labels.len(), images.len());
            return Err(Error::invalid(format!(
                "expected {examples} images of shape {shape:?}, found {found} bytes"
            )));
        }
        if let Some((i, label)) =
            labels.iter().enumerate().find(|(_, label)| usize::from(**label) >= n_classes)
        {
            return Err(Error::invalid(format!(
                "example {i}: expected a label below {n_classes}, found {label}"
            )));
        }
        let normalisation = Normalisation::unit(shape[0]);
        let tables = normalisation.tables();
        Ok(Self { shape, n_classes, images, labels, normalisation, tables })
    }

    /// The same images, normalised in another way.
    ///
    /// # Errors
    /// `InvalidArgument` unless there are a finite mean and a finite positive deviation for each
    /// channel.
    pub fn with_normalisation(mut self, normalisation: Normalisation) -> Result<Self> {
        let Normalisation { mean, std } = &normalisation;
        let channels = self.shape[0];
        let sound =
            mean.iter().all(|m| m.is_finite()) && std.iter().all(|s| s.is_normal() && *s > 0.0);
        if mean.len() != channels || std.len() != channels || !sound {
            return Err(Error::invalid(format!(
                "expected finite means and positive deviations of {channels} channels, found {normalisation:?}"
            )));
        }
        self.tables = normalisation.tables();
        self.normalisation = normalisation;
        Ok(self)
    }

    /// Channels, height and width of every image.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Labels are below this.
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }

    /// Examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no examples.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The class of each example.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// The bytes of example `i`; none if there are not so many.
    pub fn image(&self, i: usize) -> Option<&[u8]> {
        let values = self.images.len() / self.labels.len().max(1);
        self.images.get(i.checked_mul(values)?..(i + 1).checked_mul(values)?)
    }

    /// How bytes become numbers.
    pub fn normalisation(&self) -> &Normalisation {
        &self.normalisation
    }

    /// BLAKE3 of shape, images and labels: what training depends on.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let shape: Vec<u8> = self.shape.iter().flat_map(|n| (*n as u64).to_le_bytes()).collect();
        let labels: Vec<u8> = self.labels.iter().flat_map(|label| label.to_le_bytes()).collect();
        [&shape, &self.images, &labels].into_iter().for_each(|part| {
            hasher.update(part);
        });
        hasher.finalize().into()
    }

    /// The indices of all examples, in order.
    pub fn indices(&self) -> Vec<u32> {
        (0..self.labels.len() as u32).collect()
    }

    /// The first `n` examples (all, if there are fewer).
    pub fn first(&self, n: usize) -> Self {
        let n = n.min(self.len());
        let values = self.images.len() / self.labels.len().max(1);
        let (images, labels) = (self.images[..n * values].to_vec(), self.labels[..n].to_vec());
        let (normalisation, tables) = (self.normalisation.clone(), self.tables.clone());
        Self { shape: self.shape, n_classes: self.n_classes, images, labels, normalisation, tables }
    }

    /// Those behind the first `n`.
    pub(crate) fn behind(&self, n: usize) -> Self {
        let n = n.min(self.len());
        let values = self.images.len() / self.labels.len().max(1);
        let (images, labels) = (self.images[n * values..].to_vec(), self.labels[n..].to_vec());
        Self { images, labels, ..self.first(0) }
    }

    /// Normalised images `[examples, channels, height, width]` on `device`, and their classes
    /// `[examples]`.
    ///
    /// # Errors
    /// `InvalidArgument` for an index that is no example's.
    pub fn batch(&self, indices: &[u32], device: &Device) -> Result<(Tensor<4>, Tensor<1, Int>)> {
        self.views(indices, |_| View::plain(), device)
    }

    /// The same, each example as its view shows it.
    pub(crate) fn views(
        &self,
        indices: &[u32],
        view: impl Fn(u32) -> View,
        device: &Device,
    ) -> Result<(Tensor<4>, Tensor<1, Int>)> {
        let [channels, height, width] = self.shape;
        let mut values = Vec::with_capacity(indices.len() * channels * height * width);
        let mut labels = Vec::with_capacity(indices.len());
        for index in indices {
            let i = *index as usize;
            let (Some(image), Some(label)) = (self.image(i), self.labels.get(i)) else {
                let n = self.len();
                return Err(Error::invalid(format!("expected examples below {n}, found {i}")));
            };
            let view = view(*index);
            for (channel, table) in image.chunks_exact(height * width).zip(&self.tables) {
                view.show(channel, [height, width], table, &mut values);
            }
            labels.push(i64::from(*label));
        }
        let shape = [indices.len(), channels, height, width];
        let images = Tensor::from_data(TensorData::new(values, shape), device);
        Ok((images, Tensor::from_data(TensorData::new(labels, [indices.len()]), device)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fedpress::ErrorKind;

    fn tiny() -> Dataset {
        Dataset::new([2, 1, 2], 3, (0..12).map(|i| i * 20).collect(), vec![2, 0, 1]).unwrap()
    }

    #[test]
    fn sizes_and_labels_are_checked() {
        let kind = |shape, classes, bytes, labels: &[u16]| {
            let made = Dataset::new(shape, classes, vec![0; bytes], labels.to_vec());
            made.map_err(|e| e.kind().clone()).err()
        };
        assert_eq!(kind([1, 2, 2], 2, 8, &[0, 1]), None);
        let wrong = Some(ErrorKind::InvalidArgument);
        assert_eq!(kind([1, 2, 2], 2, 7, &[0, 1]), wrong);
        assert_eq!(kind([1, 2, 2], 2, 8, &[0, 2]), wrong);
        assert_eq!(kind([0, 2, 2], 2, 0, &[0, 1]), wrong);
        assert_eq!(kind([usize::MAX, 2, 2], 2, 8, &[0, 1]), wrong);
    }

    #[test]
    fn a_batch_is_gathered_and_normalised() {
        let normalisation = Normalisation { mean: vec![0.5, 0.0], std: vec![0.5, 1.0] };
        let data = tiny().with_normalisation(normalisation).unwrap();
        let (images, labels) = data.batch(&[2, 0], &crate::cpu()).unwrap();
        assert_eq!(images.dims(), [2, 2, 1, 2]);
        let expected = [160, 180, 200, 220, 0, 20, 40, 60].map(|x| x as f32 / 255.0);
        let expected: Vec<f32> = (0..8)
            .map(|i| if i % 4 < 2 { (expected[i] - 0.5) / 0.5 } else { expected[i] })
            .collect();
        assert_eq!(images.try_into_vec_as::<f32>().unwrap(), expected);
        assert_eq!(labels.try_into_vec_as::<i64>().unwrap(), [1, 2]);
        assert!(data.batch(&[3], &crate::cpu()).is_err());
    }

    #[test]
    fn normalisations_are_checked() {
        for (mean, std) in [
            (vec![0.0], vec![1.0]),
            (vec![0.0; 2], vec![1.0, 0.0]),
            (vec![f32::NAN; 2], vec![1.0; 2]),
        ] {
            assert!(tiny().with_normalisation(Normalisation { mean, std }).is_err());
        }
    }

    #[test]
    fn the_first_examples_are_a_prefix() {
        let data = tiny().first(2);
        assert_eq!((data.len(), data.image(1), data.image(2)), (2, tiny().image(1), None));
        assert_eq!(tiny().first(9), tiny());
        let rest = tiny().behind(2);
        assert_eq!((rest.len(), rest.image(0), rest.labels()), (1, tiny().image(2), &[1][..]));
        assert_eq!((tiny().behind(0), tiny().behind(9).len()), (tiny(), 0));
    }
}
