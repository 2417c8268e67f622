//! The network as the maker of a world sees it: links, routes, names, faults.

use std::{net::IpAddr, sync::Arc, time::Duration};

use super::{Cut, CutAfter, LinkConfig, LinkId, LinkStats, Network};
use crate::{host::NodeId, journal::Event, shared::Shared};

/// Controls of the network of a world.
#[derive(Clone)]
pub struct NetControl {
    pub(crate) shared: Arc<Shared>,
}

impl Network {
    pub(super) fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.names.get(name).cloned()
    }
}

impl NetControl {
    fn fault(&self, nodes: [NodeId; 2], text: impl FnOnce() -> String) {
        let numbers = nodes.map(|node| u64::from(node.number()));
        self.shared.record(Event::Fault, numbers, text);
    }

    /// Adds a link that flows of several pairs may share. Its name keys its chance, so it should
    /// not be given twice.
    pub fn add_link(&self, name: &str, config: LinkConfig) -> LinkId {
        self.shared.net.lock().add_link(name, config)
    }

    /// Changes a link from now on. What is on its way stays on its way.
    pub fn set_link(&self, link: LinkId, config: LinkConfig) {
        self.shared.with_net(|net, moment| {
            let changed = net.link(link);
            changed.config = config;
            let name = &changed.name;
            moment.shared.record(Event::Fault, [0, 0], || format!("link {name} {config:?}"));
        });
    }

    /// How a link is configured.
    #[must_use]
    pub fn link_config(&self, link: LinkId) -> LinkConfig {
        self.shared.net.lock().link(link).config
    }

    /// Sends what `from` sends to `to` over these links, one after the other; over none, it is
    /// there at once. Holds for connections made from now on.
    pub fn route(&self, from: NodeId, to: NodeId, path: &[LinkId]) {
        self.shared.with_net(|net, moment| net.pair(from, to, moment).path = path.into());
    }

    /// The links from one host to another.
    #[must_use]
    pub fn path(&self, from: NodeId, to: NodeId) -> Vec<LinkId> {
        self.shared.with_net(|net, moment| net.pair(from, to, moment).path.to_vec())
    }

    /// Sets how many bytes of one connection from one host to another may be in flight or unread,
    /// for connections made from now on.
    pub fn set_window(&self, from: NodeId, to: NodeId, window_bytes: u64) {
        self.shared
            .with_net(|net, moment| net.pair(from, to, moment).window_bytes = window_bytes.max(1));
    }

    /// Gives a name addresses of its own. Names of hosts resolve without.
    pub fn set_name(&self, name: &str, addresses: Vec<IpAddr>) {
        self.shared.net.lock().names.insert(name.to_owned(), addresses);
    }

    /// Cuts two hosts off from each other until they are healed.
    pub fn cut(&self, first: NodeId, second: NodeId, cut: Cut) {
        self.fault([first, second], || format!("{first}>{second} cut {cut:?}"));
        self.shared.with_net(|net, moment| net.cut(first, second, cut, moment));
    }

    /// Ends every cut between two hosts. What was held arrives at once.
    pub fn heal(&self, first: NodeId, second: NodeId) {
        self.fault([first, second], || format!("{first}>{second} healed"));
        self.shared.with_net(|net, moment| net.heal(first, second, moment));
    }

    /// Stops a link from sending; what is on its way arrives.
    pub fn stall(&self, link: LinkId) {
        self.set_stalled(link, true);
    }

    /// Lets a stalled link go on.
    pub fn resume(&self, link: LinkId) {
        self.set_stalled(link, false);
    }

    fn set_stalled(&self, id: LinkId, stalled: bool) {
        self.shared.with_net(|net, moment| {
            let link = net.link(id);
            link.stalled = stalled;
            let name = &link.name;
            moment.shared.record(Event::Fault, [u64::from(stalled), 0], || {
                format!("link {name} stalled: {stalled}")
            });
            net.transmit(id, moment);
        });
    }

    /// Makes everything from one host to another take longer by `delay`.
    pub fn delay(&self, from: NodeId, to: NodeId, delay: Duration) {
        self.fault([from, to], || format!("{from}>{to} delay {delay:?}"));
        self.shared.with_net(|net, moment| net.set_delay(from, to, delay, moment));
    }

    /// Cuts one connection: the first over which `from` sends something to `to` from now on, after
    /// so many bytes. [`NetControl::cuts_fired`] tells whether it happened.
    pub fn cut_after(&self, from: NodeId, to: NodeId, cut: CutAfter) {
        self.fault([from, to], || format!("{from}>{to} {cut:?}"));
        self.shared.with_net(|net, moment| net.arm(from, to, cut, moment));
    }

    /// How many cuts set by [`NetControl::cut_after`] have happened.
    #[must_use]
    pub fn cuts_fired(&self) -> u64 {
        self.shared.net.lock().cuts_fired
    }

    /// Resets every connection between two hosts, at both ends. Returns how many there were.
    pub fn reset(&self, first: NodeId, second: NodeId) -> usize {
        self.fault([first, second], || format!("{first}>{second} reset"));
        self.shared.with_net(|net, moment| net.reset_pair(first, second, moment))
    }

    /// What a link has done so far.
    #[must_use]
    pub fn link_stats(&self, link: LinkId) -> LinkStats {
        self.shared.net.lock().link(link).stats
    }

    /// How many connections there are, those included that are being opened or closed.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.net.lock().conns.len()
    }
}
