# fdwatch's core by hand: stop at each close, print the stack, go on.
set pagination off
set confirm off
set debuginfod enabled off
set breakpoint pending on
catch syscall close
commands
silent
bt
continue
end
run
