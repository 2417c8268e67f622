//! The power goes again and again, on a real file system: what was acknowledged under
//! `store.durability = "power-loss"` is there.

use std::{sync::atomic::Ordering, time::Duration};

use kura_tests::{
    endurance::{rounds, seed},
    ext4_disk::{Cut, Ext4Disk},
    node::Home,
    skip::skip,
};

use crate::{
    acknowledged::{Acknowledged, Dice, Room},
    kills::{LIFE_BYTES_MAX, stop_and_verify},
};

const NAME: &str = "a_node_whose_power_is_cut_again_and_again_loses_nothing_that_it_acknowledged";
const MIB: u64 = 1024 * 1024;
const PROMISE: Duration = Duration::from_secs(900);
/// How long the node may go on without its disk.
const KILL_DELAY_MS_MAX: u64 = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_power_is_cut_again_and_again_loses_nothing_that_it_acknowledged() {
    let cuts = rounds(6, 100);
    let capacity_mib = 512 + 2 * cuts * LIFE_BYTES_MAX / MIB;
    let disk = match Ext4Disk::mount(capacity_mib * 2) {
        Ok(disk) => disk,
        Err(reason) => return skip(NAME, &reason),
    };
    let seed = seed("power cuts");
    let home = Home::with_data_in(&disk.path().join("data"));
    let capacity = format!("--cas-capacity={capacity_mib}MiB");
    let flags = [&*capacity, "--segment=4MiB", "--durability=power-loss"];
    let mut clients = Acknowledged::new(seed, Room::ForAll, PROMISE);
    let mut dice = Dice::new(!seed);
    for _ in 0..cuts {
        let mut node = home.start(&flags).await;
        clients.judge(&node, false).await;
        let how = match dice.below(4) {
            0 => Cut::AfterSync,
            1 => Cut::JournalKept,
            _ => Cut::Everything,
        };
        let moment = Duration::from_millis(dice.below(KILL_DELAY_MS_MAX));
        let mut cut = Ok(());
        let addr = node.addr();
        let power = async || {
            cut = disk.cut(how);
            tokio::time::sleep(moment).await;
            node.kill();
        };
        clients.work_until(addr, dice.below(LIFE_BYTES_MAX), true, power).await;
        disk.restore();
        if let Err(reason) = cut {
            return skip(NAME, &reason);
        }
    }
    let node = home.start(&flags).await;
    clients.judge(&node, true).await;
    eprintln!("{cuts} cuts: {:?}", clients.counts);
    assert!(clients.counts.cut_off.load(Ordering::Relaxed) > 0, "the cuts hit nothing");
    assert!(clients.counts.puts.load(Ordering::Relaxed) > 0, "nothing was acknowledged");
    assert_eq!(node.metric("kura_store_damaged_reads_total").await, 0, "damage was served");
    stop_and_verify(&home, node).await;
}
