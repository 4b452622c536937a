#!/bin/sh
# Programs that are hard on a file system, in the folder $1 (made anew) with the seed $2. What is said must not depend on the folder.
set -eu
mkdir -p "$1"
cd "$1"
HOME=$PWD
export HOME
git config --global user.name Guest
git config --global user.email guest@localhost
git config --global init.defaultBranch main
git config --global gc.auto 0

# Random reads, writes, cuts, holes and mappings, each checked.
echo "fsx $(/tmp/inlay-fsx fsx 3000 "$2")"

# A repository of a thousand files: committed, cloned, built, changed.
mkdir -p origin/src
cd origin
i=0
while [ "$i" -lt 1000 ]; do
	echo "int f$i(int x) { return x * $i; }" > "src/f$i.c"
	i=$((i + 1))
done
printf 'OBJECTS := $(shell seq -f part%%g.o 0 49)\nall: $(OBJECTS)\n\tcat $(OBJECTS) > program\npart%%.o:\n\ttcc -r -o $@ $$(seq -f src/f%%g.c $$(($* * 20)) $$(($* * 20 + 19)))\n' > Makefile
git init -q .
git add .
GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z' git commit -qm all
cd ..
git clone -q origin clone
cd clone
make -s -j2
echo "built $(sha256sum < program)"
rm -f part*.o program
echo "status $(git status --porcelain | wc -l)"
git mv src/f7.c src/seven.c
rm src/f8.c
echo "int more;" >> src/f9.c
git status --porcelain | sort
git checkout -qf HEAD .
git reset -q --hard
git clean -qfd
echo "again $(git status --porcelain | wc -l)"
git fsck --strict 2>&1 | grep -v ^notice || true
echo "head $(git rev-parse HEAD)"
cd ..

# Two processes that write to one database.
sqlite3 db 'create table t (who, n);'
for who in 1 2; do
	(
		n=0
		while [ "$n" -lt 15 ]; do
			sqlite3 -cmd '.timeout 120000' db "insert into t values ($who, $n);"
			n=$((n + 1))
		done
	) &
done
wait
sqlite3 db 'select count(*), sum(n) from t; pragma integrity_check;'
sqlite3 -cmd '.timeout 120000' db 'pragma journal_mode = truncate; begin immediate; delete from t where n = 3; commit; select count(*) from t;'

# A tree with odd names, links and holes, through tar.
mkdir tree
cd tree
printf 'x' > "$(printf 'new\nline')"
printf 'x' > "$(printf 'bytes\377\001\200')"
printf 'x' > ' spaces  and "quotes" '
printf 'x' > '-dash'
printf 'x' > "$(printf '%0255d' 7)"
mkdir -p deep/deep/deep .hidden
ln -s nowhere dangling
ln -s ../tree/deep link
ln -- -dash second
mkfifo pipe
truncate -s 10M holes
printf 'end' >> holes
chmod 400 -- -dash
chmod 1777 .hidden
touch -d '1999-12-31 23:59:59.123456789' deep
cd ..
mkdir copy
tar -cSf - tree | tar --warning=no-timestamp -xpSf - -C copy
(cd tree && find . -printf '%P %y %m %s %n %l\n' | LC_ALL=C sort) > listed
(cd copy/tree && find . -printf '%P %y %m %s %n %l\n' | LC_ALL=C sort) > listed2
grep -v ' d ' listed > files1
grep -v ' d ' listed2 > files2
cmp files1 files2
echo "tree $(grep -v ' d ' listed | sha256sum)"
stat -c 'time %y' copy/tree/deep
diff -r --no-dereference -x pipe tree copy/tree && echo same
rm -rf tree copy clone/.git
ls | LC_ALL=C sort | tr '\n' ' '
echo
