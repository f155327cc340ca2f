package org.qlora4j.bindings;

import java.io.IOException;
import java.nio.file.DirectoryIteratorException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;

/** The folders in which native libraries are looked for, in order. */
final class NativeFolders {
    static final String PROPERTY = "qlora4j.natives";
    static final String ENVIRONMENT = "QLORA4J_NATIVES";

    private NativeFolders() {}

    /**
     * A folder.
     *
     * @param origin who says that it should be looked in, for messages
     * @param namedByUser whether the user named it, so that nothing else may be taken if it fails
     */
    record Place(Path folder, String origin, boolean namedByUser) {}

    /** All folders of this process; read anew each time, since properties change. */
    static List<Place> ofThisProcess() {
        List<Place> places = new ArrayList<>(namedByUser());
        places.add(new Place(NativePackage.ONEDNN.folder(), "the cache", false));
        places.add(new Place(NativePackage.BITSANDBYTES.folder(), "the cache", false));
        for (Path packages : sitePackages(System::getenv)) {
            places.add(new Place(packages.resolve("bitsandbytes"), "Python's packages", false));
        }
        return places;
    }

    /** The folders the user named. */
    static List<Place> namedByUser() {
        List<Place> places = new ArrayList<>();
        add(places, System.getProperty(PROPERTY), "system property " + PROPERTY);
        add(places, System.getenv(ENVIRONMENT), "environment " + ENVIRONMENT);
        return places;
    }

    private static void add(List<Place> places, @Nullable String folder, String origin) {
        if (folder != null && !folder.isBlank()) {
            places.add(new Place(Path.of(folder).toAbsolutePath(), origin, true));
        }
    }

    /**
     * Package folders of the active environment, of the python3 on the path, and of the user; found without running
     * Python.
     */
    static List<Path> sitePackages(Function<String, @Nullable String> environment) {
        List<Path> roots = new ArrayList<>();
        for (String name : new String[] {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
            String root = environment.apply(name);
            if (root != null && !root.isBlank()) {
                roots.add(Path.of(root));
            }
        }
        String path = environment.apply("PATH");
        for (String bin : path == null ? new String[0] : path.split(":")) {
            Path root = Path.of(bin).toAbsolutePath().getParent();
            if (!bin.isBlank() && root != null && Files.isExecutable(Path.of(bin, "python3"))) {
                roots.add(root);
                break;
            }
        }
        String home = environment.apply("HOME");
        if (home != null && !home.isBlank()) {
            roots.add(Path.of(home, ".local"));
        }
        List<Path> found = new ArrayList<>();
        for (Path root : roots) {
            for (String packages : new String[] {"site-packages", "dist-packages"}) {
                addPackages(found, root.resolve("lib"), packages);
            }
        }
        return found;
    }

    private static void addPackages(List<Path> found, Path lib, String packages) {
        if (!Files.isDirectory(lib)) {
            return;
        }
        try (DirectoryStream<Path> versions = Files.newDirectoryStream(lib, "python3*")) {
            for (Path version : versions) {
                Path folder = version.resolve(packages);
                if (Files.isDirectory(folder) && !found.contains(folder)) {
                    found.add(folder);
                }
            }
        } catch (IOException | DirectoryIteratorException e) {
            // a folder that cannot be listed holds nothing that could be opened
            System.getLogger(NativeFolders.class.getName()).log(System.Logger.Level.DEBUG, "cannot list " + lib, e);
        }
    }
}
