"""python.py [N]: N times subprocess.run with a file as stdout, then as many imports as a large program makes."""
import importlib
import subprocess
import sys

MODULES = """
argparse ast asyncio bz2 calendar cmd code codecs collections.abc concurrent.futures configparser contextlib csv ctypes
dataclasses datetime decimal difflib dis doctest email.mime.multipart fractions ftplib gettext glob gzip hashlib heapq
html.parser http.client http.cookiejar http.server imaplib inspect ipaddress json locale logging.config lzma mailbox
mimetypes multiprocessing.pool netrc optparse pathlib pdb pickle pickletools pkgutil platform plistlib poplib pprint
profile pstats pydoc queue random sched secrets selectors shelve shlex shutil smtplib socketserver sqlite3 ssl
statistics string tarfile tempfile textwrap timeit tokenize trace tracemalloc typing unittest.mock urllib.request uuid
wave webbrowser wsgiref.simple_server xml.dom.minidom xml.etree.ElementTree xmlrpc.client zipapp zipfile
""".split()


def main(count):
    with open("/dev/null", "wb") as sink:
        for _ in range(count):
            subprocess.run(["/bin/true"], stdout=sink, check=True)
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError:  # left out of this build
            pass


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
