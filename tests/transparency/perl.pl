# fork, wait, pipe, socketpair, alarm, exec, and what is open.
use strict; use warnings; use Socket; use POSIX qw(:sys_wait_h dup2 setsid);
$| = 1;
my $pid = fork; if (!$pid) { exit 3 } waitpid $pid, 0; print "exit: ", $? >> 8, "\n";
$pid = fork; if (!$pid) { kill 'KILL', $$; sleep 9 } waitpid $pid, 0; print "signal: ", $? & 127, "\n";
open my $ls, '-|', 'seq 1 3' or die; print while <$ls>; close $ls;
open my $wc, '|-', 'wc -c' or die; print $wc "x" x 100000; close $wc; print "wc: $?\n";
socketpair my $one, my $two, AF_UNIX, SOCK_STREAM, PF_UNSPEC or die;
if (!($pid = fork)) { close $one; syswrite $two, "from the child\n"; exit 0 }
close $two; print scalar <$one>; waitpid $pid, 0;
$SIG{ALRM} = sub { die "alarm\n" }; eval { alarm 1; select undef, undef, undef, 20; }; print "caught: $@";
my $stopped = 0; my $continued = 0;
if (!($pid = fork)) { kill 'STOP', $$; exit 4 }
waitpid $pid, WUNTRACED; print "stopped by ", WSTOPSIG(${^CHILD_ERROR_NATIVE}), "\n"; kill 'CONT', $pid;
waitpid $pid, 0; print "exit: ", $? >> 8, "\n";
my $n = 0; $SIG{CHLD} = sub { while (waitpid(-1, WNOHANG) > 0) { $n++ } };
for (1 .. 20) { my $p = fork; exit 0 unless $p } select undef, undef, undef, 0.05 while $n < 20; print "children: $n\n";
$SIG{CHLD} = 'IGNORE'; $pid = fork; exit 0 unless $pid; print "ignored: ", waitpid($pid, 0), "\n"; $SIG{CHLD} = 'DEFAULT';
local $SIG{PIPE} = sub { print "a broken pipe\n" }; pipe my $r, my $w; close $r; syswrite $w, "x";
dup2(1, 9); open my $nine, '>&=', 9; print $nine "to nine\n"; close $nine;
opendir my $d, '/proc/self/fd'; print "open: ", join(' ', sort { $a <=> $b } grep { /\d/ } readdir $d), "\n";
exec 'sh', '-c', 'echo executed; exit 6';
