//! [`Routes`]: how each client is sent to and sends, as options and layout say.

use super::RoundOptions;
use crate::specs::{ClientSpecs, TensorSpecs};
use crate::{Layout, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Specs for the tensors of the model, both ways.
#[derive(Debug, PartialEq)]
pub(super) struct Route {
    pub(super) down: TensorSpecs,
    pub(super) up: TensorSpecs,
}

impl Route {
    fn new(specs: &ClientSpecs, layout: &Layout) -> Result<Arc<Self>> {
        let [down, up] = [specs.down.resolve(layout)?, specs.up.resolve(layout)?];
        Ok(Arc::new(Self { down, up }))
    }
}

/// The route of each client, made once, as rules are matched against every name.
pub(super) struct Routes {
    default: Arc<Route>,
    clients: BTreeMap<u64, Arc<Route>>,
}

impl Routes {
    /// # Errors
    /// Those of [`Specs::resolve`](crate::Specs::resolve).
    pub(super) fn new(options: &RoundOptions, layout: &Layout) -> Result<Self> {
        let (down, up) = (options.down.clone(), options.up.clone());
        let default = Route::new(&ClientSpecs { down, up }, layout)?;
        // Clients of a tier share their specs, and so their route.
        let mut made: Vec<(&Arc<ClientSpecs>, Arc<Route>)> = Vec::new();
        let mut clients = BTreeMap::new();
        for (client, specs) in &options.client_specs {
            let known = made.iter().find(|(of, _)| Arc::ptr_eq(of, specs) || *of == specs);
            let route = match known {
                Some((_, route)) => route.clone(),
                None => {
                    let route = Route::new(specs, layout)?;
                    made.push((specs, route.clone()));
                    route
                }
            };
            clients.insert(*client, route);
        }
        Ok(Self { default, clients })
    }

    /// How those are sent to who have no specs of their own.
    pub(super) fn down(&self) -> &TensorSpecs {
        &self.default.down
    }

    pub(super) fn of(&self, client: u64) -> &Arc<Route> {
        self.clients.get(&client).unwrap_or(&self.default)
    }
}
