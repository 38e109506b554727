# The same history each time: the dates are given by the environment.
set -e
git init -q -b main a; cd a
for i in 1 2 3 4 5 6 7 8; do seq 1 ${i}00 >file$i; git add .; git commit -q -m "number $i"; done
git checkout -q -b side HEAD~4
for i in 1 2 3; do echo $i >side$i; git add .; git commit -q -m "side $i"; done
git rebase -q main; git log --format='%h %s' | head -12
git checkout -q main; git merge -q --no-ff -m merged side
git tag -a -m tagged v1; git describe
cat >.git/hooks/post-commit <<'H'
#!/bin/sh
echo "the hook ran: $(git log -1 --format=%s)"
H
chmod +x .git/hooks/post-commit; echo x >x; git add x; git commit -q -m "with a hook"
git gc -q --prune=now; git fsck --no-progress; git count-objects -v | grep -v size
cd ..; git clone -q a b; git clone -q --bare "file://$PWD/a" c.git; cd b
echo more >more; git add more; git commit -q -m more; git push -q "$PWD/../c.git" main; git -C ../c.git log -1 --format=%H
git stash list; git bisect start HEAD v1~4 >/dev/null; git bisect run sh -c '! test -e side2' 2>&1 | grep 'first bad'; git bisect reset 2>/dev/null
git archive HEAD | md5sum; git grep -c 99 | head -3
git -c core.pager=cat log --oneline | wc -l
