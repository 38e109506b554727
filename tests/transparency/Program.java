// Threads, processes, files, a socket.
import java.io.*;
import java.net.*;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;

public class Program {
    public static void main(String[] args) throws Exception {
        System.out.println("hello");
        Process p = new ProcessBuilder("sh", "-c", "echo from a child; exit 3").start();
        System.out.print(new String(p.getInputStream().readAllBytes()));
        System.out.println(p.waitFor());
        p = new ProcessBuilder("sh", "-c", "kill -9 $$").start();
        System.out.println(p.waitFor());
        p = new ProcessBuilder("cat").redirectOutput(new File("java.txt")).start();
        p.getOutputStream().write("through cat\n".getBytes());
        p.getOutputStream().close();
        System.out.println(p.waitFor() + " " + Files.readString(Path.of("java.txt")).trim());
        ExecutorService pool = Executors.newFixedThreadPool(16);
        AtomicLong sum = new AtomicLong();
        for (int i = 0; i < 200; i++) {
            int n = i;
            pool.submit(() -> {
                Path f = Path.of("f" + n % 16 + "-" + n);
                Files.writeString(f, "" + n);
                sum.addAndGet(Long.parseLong(Files.readString(f)));
                return null;
            });
        }
        pool.shutdown();
        System.out.println(pool.awaitTermination(5, TimeUnit.MINUTES) + " " + sum);
        try (ServerSocket s = new ServerSocket(0)) {
            Thread t = new Thread(() -> {
                try (Socket c = s.accept()) {
                    c.getInputStream().transferTo(c.getOutputStream());
                } catch (IOException e) {
                    System.out.println(e);
                }
            });
            t.start();
            try (Socket c = new Socket("127.0.0.1", s.getLocalPort())) {
                c.getOutputStream().write("echoed\n".getBytes());
                c.shutdownOutput();
                System.out.print(new String(c.getInputStream().readAllBytes()));
            }
            t.join();
        }
        Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("the hook")));
        System.exit(5);
    }
}
