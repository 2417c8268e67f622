//! What a stream of this machine tells of bytes on their way.

use std::{future::poll_fn, pin::Pin, task::Poll};

use kura_env::{Net, Stream};
use kura_host::HostNet;
use tokio::io::AsyncReadExt;

/// Writes until the socket takes no more.
async fn fill(stream: &mut Box<dyn Stream>) {
    let piece = vec![0; 64 * 1024];
    loop {
        let full = poll_fn(|context| match Pin::new(&mut **stream).poll_write(context, &piece) {
            Poll::Pending => Poll::Ready(true),
            Poll::Ready(written) => Poll::Ready(written.expect("the other end listens") == 0),
        });
        if full.await {
            return;
        }
    }
}

#[tokio::test]
async fn what_was_not_sent_yet_falls_while_the_other_end_reads() {
    let net = HostNet;
    let listener = net.listen(([127, 0, 0, 1], 0).into()).await.expect("loopback");
    let mut near = net.connect(listener.local_addr()).await.expect("it listens");
    let mut far = listener.accept().await.expect("it was connected to");
    assert_eq!(near.unsent_bytes(), Some(0));
    fill(&mut near).await;
    let full_bytes = near.unsent_bytes().expect("Linux tells");
    assert!(full_bytes > 0);
    let (mut read, mut read_bytes) = (vec![0; 16 * 1024], 0);
    // The window opens in steps.
    while read_bytes < full_bytes {
        far.read_exact(&mut read).await.expect("more was sent than is read");
        read_bytes += read.len() as u64;
        if near.unsent_bytes() < Some(full_bytes) {
            return;
        }
    }
    panic!("{read_bytes} B were read, and {full_bytes} B count as unsent all the while");
}
