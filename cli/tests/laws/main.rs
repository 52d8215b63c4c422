//! What the program promises, asked of the real binary.

#[cfg(test)]
mod containers;
#[cfg(test)]
mod demo;
#[cfg(test)]
#[cfg(feature = "cuda")]
mod device;
#[cfg(test)]
mod exit_codes;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod manual;
#[cfg(test)]
mod many;
#[cfg(test)]
mod outputs;
#[cfg(test)]
mod pipelines;
#[cfg(test)]
mod pipes;
#[cfg(test)]
mod remarks;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod room;
#[cfg(test)]
mod submodel;
#[cfg(test)]
mod targets;
#[cfg(test)]
#[cfg(feature = "train")]
mod train;
