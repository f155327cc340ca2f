package org.qlora4j.samples;

import static com.tngtech.archunit.base.DescribedPredicate.not;
import static com.tngtech.archunit.core.domain.JavaCall.Predicates.target;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.equivalentTo;
import static com.tngtech.archunit.core.domain.JavaClass.Predicates.resideInAPackage;
import static com.tngtech.archunit.core.domain.properties.HasName.Predicates.nameMatching;
import static com.tngtech.archunit.core.domain.properties.HasOwner.Predicates.With.owner;
import static com.tngtech.archunit.lang.syntax.ArchRuleDefinition.noClasses;
import static com.tngtech.archunit.library.dependencies.SlicesRuleDefinition.slices;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.tngtech.archunit.core.domain.JavaClasses;
import com.tngtech.archunit.core.domain.properties.HasName;
import com.tngtech.archunit.core.importer.ClassFileImporter;
import com.tngtech.archunit.core.importer.ImportOption;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.qlora4j.bindings.Secrets;

/** The rules of ARCHITECTURE.md, on the compiled classes of all modules. */
class ArchitectureTest {
    private static final List<String> MODULES = List.of("bindings", "nf4", "lora", "optim", "samples");

    private static JavaClasses classes;

    @BeforeAll
    static void read() {
        classes = new ClassFileImporter()
                .withImportOption(new ImportOption.DoNotIncludeTests())
                .importPackages("org.qlora4j");
        for (String module : MODULES) {
            assertTrue(
                    classes.stream().anyMatch(c -> c.getPackageName().startsWith("org.qlora4j." + module)),
                    "no class of " + module);
        }
    }

    private static String packages(String module) {
        return "org.qlora4j." + module + "..";
    }

    @Test
    void modulesSeeLeftOnly() {
        for (int i = 0; i < MODULES.size() - 1; i++) {
            noClasses()
                    .that()
                    .resideInAPackage(packages(MODULES.get(i)))
                    .should()
                    .dependOnClassesThat()
                    .resideInAnyPackage(MODULES.subList(i + 1, MODULES.size()).stream()
                            .map(ArchitectureTest::packages)
                            .toArray(String[]::new))
                    .check(classes);
        }
    }

    @Test
    void packagesHaveNoCycles() {
        slices().matching("org.qlora4j.(**)").should().beFreeOfCycles().check(classes);
    }

    @ParameterizedTest
    @CsvSource({
        "java.lang.foreign.Linker, downcallHandle|upcallStub",
        "java.lang.foreign.SymbolLookup, libraryLookup",
        "java.lang.foreign.MemorySegment, reinterpret",
        "java.lang.foreign.AddressLayout, withTargetLayout",
        "java.lang.System, load|loadLibrary",
        "java.lang.Runtime, load|loadLibrary"
    })
    void onlyBindingsCallsRestrictedMethods(String type, String methods) {
        noClasses()
                .that()
                .resideOutsideOfPackage(packages("bindings"))
                .should()
                .callMethodWhere(target(owner(HasName.Predicates.name(type))).and(target(nameMatching(methods))))
                .check(classes);
    }

    @Test
    void onlyTheDeviceSeamNamesConcreteDevices() {
        noClasses()
                .that()
                .resideOutsideOfPackage("org.qlora4j.nf4.device..")
                .and()
                .doNotHaveFullyQualifiedName("org.qlora4j.nf4.Devices")
                .should()
                .dependOnClassesThat()
                .resideInAnyPackage(
                        "org.qlora4j.nf4.device.cpu..",
                        "org.qlora4j.nf4.device.reference..",
                        "org.qlora4j.nf4.device.cuda..")
                .check(classes);
    }

    @Test
    void modelsAndOptimizersCallNothingNative() {
        noClasses()
                .that()
                .resideInAnyPackage(packages("lora"), packages("optim"))
                .should()
                .dependOnClassesThat(resideInAPackage(packages("bindings"))
                        // which is about texts
                        .and(not(equivalentTo(Secrets.class))))
                .check(classes);
    }

    @Test
    void modelsOpenNoDevice() {
        noClasses()
                .that()
                .resideInAPackage(packages("lora"))
                .should()
                .dependOnClassesThat()
                .haveFullyQualifiedName("org.qlora4j.nf4.Devices")
                .check(classes);
    }

    @Test
    void librariesDoNotPrint() {
        noClasses()
                .that()
                .resideOutsideOfPackages(packages("samples"), "org.qlora4j.bindings.generated..")
                .should()
                .accessField(System.class, "out")
                .orShould()
                .accessField(System.class, "err")
                .check(classes);
    }
}
