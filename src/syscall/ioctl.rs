//! The requests of ioctl(2) that change a table.
//!
//! One number may be a request of several drivers, so what it is said to have made is believed only if it is open and is
//! what the driver makes. A driver that is not in [`MAKERS`] is noticed when the table is looked at.

use super::{Arg, Made, Need, Row, When};
use crate::base::Fd;
use crate::event::{Effect, NewFile};

const O_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
const RDWR: u32 = libc::O_RDWR as u32;

/// FD_CLOEXEC is set (asm-generic/ioctls.h).
const FIOCLEX: u32 = 0x5451;
/// FD_CLOEXEC is cleared.
const FIONCLEX: u32 = 0x5450;

/// How a request hands a descriptor over.
#[derive(Clone, Copy)]
enum How {
    /// It is the result.
    Returned,
    /// It is written to where the argument points, this many bytes in, by a request that returns 0.
    Written(u64),
}

/// A request that makes a descriptor.
struct Maker {
    request: u32,
    name: &'static str,
    how: How,
    /// What the link of its descriptor contains; empty where it may be anything.
    link: &'static str,
    /// The object may be one that somebody holds already.
    shared: bool,
}

const fn returned(request: u32, name: &'static str, link: &'static str) -> Maker {
    Maker { request, name, how: How::Returned, link, shared: false }
}

const fn written(request: u32, name: &'static str, at: u64, link: &'static str) -> Maker {
    Maker { request, name, how: How::Written(at), link, shared: false }
}

const fn shared(maker: Maker) -> Maker {
    Maker { shared: true, ..maker }
}

/// The requests that make a descriptor. The numbers are those that `linux/*.h` and `drm/*.h` give on x86-64 and on i386;
/// where they differ, both are here.
static MAKERS: &[Maker] = &[
    // ioctl_tty(2)
    returned(0x5441, "TIOCGPTPEER", ""),
    // ioctl_ns(2), linux/nsfs.h
    returned(0xb701, "NS_GET_USERNS", ":["),
    returned(0xb702, "NS_GET_PARENT", ":["),
    returned(0x8010_b70b, "NS_MNT_GET_NEXT", ":["),
    returned(0x8010_b70c, "NS_MNT_GET_PREV", ":["),
    // linux/pidfd.h
    returned(0xff01, "PIDFD_GET_CGROUP_NAMESPACE", ":["),
    returned(0xff02, "PIDFD_GET_IPC_NAMESPACE", ":["),
    returned(0xff03, "PIDFD_GET_MNT_NAMESPACE", ":["),
    returned(0xff04, "PIDFD_GET_NET_NAMESPACE", ":["),
    returned(0xff05, "PIDFD_GET_PID_NAMESPACE", ":["),
    returned(0xff06, "PIDFD_GET_PID_FOR_CHILDREN_NAMESPACE", ":["),
    returned(0xff07, "PIDFD_GET_TIME_NAMESPACE", ":["),
    returned(0xff08, "PIDFD_GET_TIME_FOR_CHILDREN_NAMESPACE", ":["),
    returned(0xff09, "PIDFD_GET_USER_NAMESPACE", ":["),
    returned(0xff0a, "PIDFD_GET_UTS_NAMESPACE", ":["),
    // linux/sockios.h, linux/if_tun.h
    returned(0x894c, "SIOCGSKNS", "net:["),
    returned(0x54e3, "TUNGETDEVNETNS", "net:["),
    // linux/userfaultfd.h
    returned(0xaa00, "USERFAULTFD_IOC_NEW", "userfaultfd"),
    // linux/kvm.h
    returned(0xae01, "KVM_CREATE_VM", "kvm-vm"),
    returned(0xae41, "KVM_CREATE_VCPU", "kvm-vcpu"),
    returned(0xaece, "KVM_GET_STATS_FD", "kvm"),
    returned(0xc040_aed4, "KVM_CREATE_GUEST_MEMFD", "kvm"),
    written(0xc00c_aee0, "KVM_CREATE_DEVICE", 4, "kvm"),
    // linux/vfio.h
    returned(0x3b6a, "VFIO_GROUP_GET_DEVICE_FD", "vfio"),
    // linux/udmabuf.h, linux/dma-heap.h, linux/dma-buf.h, linux/sync_file.h, linux/tee.h
    returned(0x4018_7542, "UDMABUF_CREATE", "dmabuf"),
    returned(0x4008_7543, "UDMABUF_CREATE_LIST", "dmabuf"),
    written(0xc018_4800, "DMA_HEAP_IOCTL_ALLOC", 8, "dmabuf"),
    written(0xc008_6202, "DMA_BUF_IOCTL_EXPORT_SYNC_FILE", 4, "sync_file"),
    written(0xc030_3e03, "SYNC_IOC_MERGE", 36, "sync_file"),
    returned(0xc010_a401, "TEE_IOC_SHM_ALLOC", ""),
    returned(0xc018_a409, "TEE_IOC_SHM_REGISTER", ""),
    // drm/drm.h, drm/drm_mode.h: a buffer that was exported before is exported as the same file.
    shared(written(0xc00c_642d, "DRM_IOCTL_PRIME_HANDLE_TO_FD", 8, "dmabuf")),
    written(0xc010_64c1, "DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD", 8, "sync"),
    written(0xc018_64c1, "DRM_IOCTL_SYNCOBJ_HANDLE_TO_FD", 8, "sync"),
    written(0xc018_64c6, "DRM_IOCTL_MODE_CREATE_LEASE", 20, "/dri/"),
    // linux/videodev2.h, linux/dvb/dmx.h, linux/media.h
    written(0xc040_5610, "VIDIOC_EXPBUF", 16, "dmabuf"),
    written(0xc00c_6f3e, "DMX_EXPBUF", 8, "dmabuf"),
    written(0x8004_7c05, "MEDIA_IOC_REQUEST_ALLOC", 0, "request"),
    // linux/gpio.h
    written(0xc16c_b403, "GPIO_GET_LINEHANDLE_IOCTL", 360, "gpio"),
    written(0xc030_b404, "GPIO_GET_LINEEVENT_IOCTL", 44, "gpio"),
    written(0xc250_b407, "GPIO_V2_GET_LINE_IOCTL", 588, "gpio"),
    // linux/ntsync.h
    returned(0x4008_4e80, "NTSYNC_IOC_CREATE_SEM", "ntsync"),
    returned(0x4008_4e84, "NTSYNC_IOC_CREATE_MUTEX", "ntsync"),
    returned(0x4008_4e87, "NTSYNC_IOC_CREATE_EVENT", "ntsync"),
    // linux/vduse.h: the memory of another process, as that has it open.
    shared(returned(0xc020_8110, "VDUSE_IOTLB_GET_FD", "")),
    shared(returned(0xc01c_8110, "VDUSE_IOTLB_GET_FD", "")),
    // linux/auto_dev-ioctl.h
    written(0xc018_9374, "AUTOFS_DEV_IOCTL_OPENMOUNT", 12, "/"),
];

#[allow(clippy::indexing_slicing)] // the compiler runs it, and would refuse an index past the end
const REQUESTS: [u32; MAKERS.len() + 2] = {
    let mut out = [0; MAKERS.len() + 2];
    out[0] = FIOCLEX;
    out[1] = FIONCLEX;
    let mut i = 0;
    while i < MAKERS.len() {
        out[i + 2] = MAKERS[i].request;
        i += 1;
    }
    out
};

/// The name of a request that changes a table.
pub fn request_name(request: u32) -> Option<&'static str> {
    match request {
        FIOCLEX => Some("FIOCLEX"),
        FIONCLEX => Some("FIONCLEX"),
        _ => MAKERS.iter().find(|m| m.request == request).map(|m| m.name),
    }
}

fn ioctl(m: &Made<'_>) -> Vec<Effect> {
    let request = m.int(1) as u32;
    match request {
        FIOCLEX | FIONCLEX => match m.ret {
            None | Some(0) => vec![Effect::Cloexec { fd: m.fd(0), on: request == FIOCLEX }],
            Some(_) => m.refused(m.fd(0)),
        },
        _ => MAKERS.iter().find(|k| k.request == request).and_then(|k| make(m, k)).into_iter().collect(),
    }
}

fn make(m: &Made<'_>, maker: &Maker) -> Option<Effect> {
    let fd = match maker.how {
        How::Returned => m.new_fd()?,
        How::Written(at) if m.ret == Some(0) => Fd(m.addr(2).checked_add(at).and_then(|a| m.task.half(a))? as i32),
        How::Written(_) => return None,
    };
    let link = m.task.link(fd).filter(|_| fd.0 >= 0)?;
    if !contains(&link, maker.link.as_bytes()) {
        return None;
    }
    let flags = m.task.flags(fd).unwrap_or(RDWR | O_CLOEXEC);
    let (file, cloexec) = (NewFile::from_link(link, flags & !O_CLOEXEC), flags & O_CLOEXEC != 0);
    Some(match maker.shared {
        true => Effect::Receive { fd, cloexec, file, from: None },
        false => Effect::Open { fd, cloexec, file },
    })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|w| w == part)
}

fn need(m: &Made<'_>) -> Need {
    match m.int(1) as u32 {
        // ioctl(2) of these two has nothing to fail at but a number that is not open, or is open with O_PATH.
        FIOCLEX | FIONCLEX => Need::Entry,
        _ => Need::Exit,
    }
}

pub(super) static ROWS: &[Row] = &[Row {
    only: Some((1, &REQUESTS)),
    when: When::Arguments(need),
    ..Row::exit("ioctl", Some(16), Some(54), &[Arg::Fd, Arg::Request, Arg::Pointer], ioctl)
}];

#[cfg(test)]
mod tests {
    use super::super::testing::{Paper, decode, need_as};
    use super::*;
    use crate::base::Arch;
    use crate::event::FileKind;

    fn call(request: u32, arg: u64, ret: i64, task: &Paper) -> Vec<Effect> {
        decode("ioctl", [3, u64::from(request) | 0xdead << 32, arg, 0, 0, 0], Some(ret), task)
    }

    #[test]
    fn close_on_exec_is_set_and_cleared() {
        let t = Paper::default();
        assert_eq!(call(FIOCLEX, 0, 0, &t), vec![Effect::Cloexec { fd: Fd(3), on: true }]);
        assert_eq!(call(FIONCLEX, 0, 0, &t), vec![Effect::Cloexec { fd: Fd(3), on: false }]);
        assert_eq!(call(FIOCLEX, 0, -9, &t), vec![Effect::Refused { fd: Fd(3), to: None, close: false }]);
        let with_o_path = Paper { links: vec![(3, "/tmp")], ..Paper::default() };
        assert_eq!(call(FIOCLEX, 0, -9, &with_o_path), vec![], "open, and refused all the same");
        assert_eq!(need_as(Arch::X86_64, "ioctl", [3, FIOCLEX.into(), 0, 0, 0, 0], &t), Need::Entry);
        assert_eq!(need_as(Arch::X86_64, "ioctl", [3, 0x5441, 0, 0, 0, 0], &t), Need::Exit);
    }

    #[test]
    fn a_returned_descriptor_is_what_the_driver_makes() {
        let task = Paper {
            links: vec![(0, "/dev/pts/3"), (5, "user:[4026531837]"), (6, "anon_inode:kvm-vm")],
            flags: vec![(5, O_CLOEXEC), (6, RDWR)],
            ..Paper::default()
        };
        match call(0xb701, 0, 5, &task).as_slice() {
            [Effect::Open { fd: Fd(5), cloexec: true, file }] => assert_eq!(file.kind, FileKind::Namespace),
            other => panic!("{other:?}"),
        }
        let vm = call(0xae01, 0, 6, &task);
        assert!(matches!(vm.as_slice(), [Effect::Open { fd: Fd(6), cloexec: false, .. }]), "{vm:?}");
        assert_eq!(call(0xae01, 0, 0, &task), vec![], "another driver's request of the same number");
        assert_eq!(call(0xae01, 0, 7, &task), vec![], "not open");
        assert_eq!(call(0xae01, 0, -25, &task), vec![]);
    }

    #[test]
    fn a_written_descriptor_is_read_at_its_place() {
        let mut bytes = vec![0; 64];
        bytes[36..40].copy_from_slice(&7i32.to_le_bytes());
        let task =
            Paper { at: 0x100, bytes, links: vec![(0, "/dev/null"), (7, "anon_inode:sync_file")], ..Paper::default() };
        let merge = 0xc030_3e03;
        let e = call(merge, 0x100, 0, &task);
        assert!(matches!(e.as_slice(), [Effect::Open { fd: Fd(7), cloexec: true, .. }]), "{e:?}");
        assert_eq!(call(merge, 0x100, -2, &task), vec![]);
        assert_eq!(call(merge, 0x104, 0, &task), vec![], "a zero is another's number");
        for nowhere in [0x900, u64::MAX - 30] {
            assert_eq!(call(merge, nowhere, 0, &task), vec![]);
        }
    }

    #[test]
    fn what_may_be_another_s_object_is_received() {
        let mut bytes = vec![0; 16];
        bytes[8..12].copy_from_slice(&7i32.to_le_bytes());
        let task = Paper { at: 0x100, bytes, links: vec![(7, "/dmabuf:")], ..Paper::default() };
        let e = call(0xc00c_642d, 0x100, 0, &task);
        assert!(matches!(e.as_slice(), [Effect::Receive { fd: Fd(7), from: None, .. }]), "{e:?}");
    }

    #[test]
    fn requests_have_names_and_are_no_one_s_twice() {
        assert_eq!(request_name(FIONCLEX), Some("FIONCLEX"));
        assert_eq!(request_name(0x5441), Some("TIOCGPTPEER"));
        assert_eq!(request_name(0x5401), None, "TCGETS");
        let mut all = REQUESTS.to_vec();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), REQUESTS.len());
    }
}
