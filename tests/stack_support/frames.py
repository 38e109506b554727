"""Run by gdb: says, at each entry of close(FDWATCH_FD), what gdb thinks is on the stack; one line of JSON a stop.
With FDWATCH_STEP=FUNCTION: at the instructions of that function.

After each it waits for a line. The process then is as it was, so another unwinder can look at it meanwhile.
"""
import json
import os
import sys

import gdb

fd = os.environ.get("FDWATCH_FD")
for setting in [
    "pagination off",
    "confirm off",
    "debuginfod enabled off",
    "startup-with-shell off",
    "backtrace past-main on",
    "backtrace limit 300",
    "print thread-events off",
    "print inferior-events off",
    "stop-on-solib-events 0",
]:
    try:
        gdb.execute("set " + setting, to_string=True)
    except gdb.error:
        pass  # an older gdb

# Signals that the targets send themselves.
for signal in ["SIGUSR1", "SIGILL", "SIGSEGV", "SIGURG"]:
    gdb.execute("handle %s nostop noprint pass" % signal, to_string=True)


def stack():
    """All frames that take room on the stack, as [pc, is a signal's, name]; and why the outermost is the last."""
    frames, why = [], ""
    frame = gdb.newest_frame()
    while frame is not None:
        # Inlined calls and calls in tail position have no frame; gdb tells of them in between.
        if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
            frames.append([frame.pc(), frame.type() == gdb.SIGTRAMP_FRAME, frame.name()])
        try:
            older = frame.older()
        except gdb.error as e:
            why = str(e)
            break
        if older is None:
            why = gdb.frame_stop_reason_string(frame.unwind_stop_reason())
        frame = older
    return frames, why


def registers():
    wide = gdb.newest_frame().architecture().name() != "i386"
    names = "ax bx cx dx si di bp sp".split()
    own = {("r" if wide else "e") + n: "r" + n for n in names}
    own["rip" if wide else "eip"] = "rip"
    own["cs"] = "cs"
    if wide:
        own.update({"r%d" % n: "r%d" % n for n in range(8, 16)})
    frame = gdb.newest_frame()
    mask = (1 << 64 if wide else 1 << 32) - 1
    return {name: int(frame.read_register(reg)) & mask for reg, name in own.items()}


def tell(line):
    """Writes one line and waits for the answer; whether there is one."""
    print("\n@" + json.dumps(line), flush=True)
    return bool(sys.stdin.readline())


def look():
    if "FDWATCH_CORE" in os.environ:
        gdb.execute("generate-core-file " + os.environ["FDWATCH_CORE"], to_string=True)
    frames, why = stack()
    pid, tid, _ = gdb.selected_thread().ptid
    return tell({"pid": pid, "tid": tid or pid, "frames": frames, "why": why, "regs": registers()})


def closes():
    """Stops at the entry of each close of the number, or of any."""
    gdb.execute("catch syscall close", to_string=True)
    wide = gdb.newest_frame().architecture().name() != "i386"
    if fd != "any":
        gdb.execute("condition $bpnum %s == %s" % ("$edi" if wide else "$ebx", fd), to_string=True)
    while True:
        gdb.execute("continue", to_string=True)
        if not gdb.selected_inferior().pid or not look():
            return
        # A catchpoint stops at the exit of the call, too, where the number is in the register still.
        gdb.execute("continue", to_string=True)


def steps(function):
    """Stops at every instruction of the function and of what it calls; in libraries at every 61st."""
    gdb.execute("break *%s" % function, to_string=True)
    gdb.execute("continue", to_string=True)
    end = gdb.newest_frame().older().pc()
    outside = looks = 0
    # A clock in the vDSO (i386: in time(), too) is read again when it ticked meanwhile: stepped, that is always.
    while gdb.newest_frame().pc() != end and looks < 150:
        pc = gdb.newest_frame().pc()
        own = gdb.solib_name(pc) is None
        outside += not own
        if own or outside % 61 == 1:
            looks += 1
            if not look():
                return
        gdb.execute("stepi", to_string=True)


gdb.execute("starti", to_string=True)  # the last that gdb prints by itself
try:
    if "FDWATCH_STEP" in os.environ:
        steps(os.environ["FDWATCH_STEP"])
    else:
        closes()
except gdb.error as e:
    # A thread that ends with its process may be gone before gdb has asked for its registers. Tests count the stops.
    if "No such process" not in str(e):
        tell({"error": str(e)})
try:
    if gdb.selected_inferior().pid:
        gdb.execute("kill", to_string=True)
except gdb.error:
    pass  # gone
tell({})
